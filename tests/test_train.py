"""lh_jax.train: both stages end to end, and every mistake found before training starts."""

import json
import shutil

import jax
import numpy as np
from PIL import Image
import pytest

import lh_jax
from lh_jax import exports
from lh_jax import logs
from lh_jax import train


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A whole tiny run of both stages."""
  from tests.conftest import tiny_config

  workdir = tmp_path_factory.mktemp('run')
  state, metrics = train.train(tiny_config(), workdir)
  return workdir, state, metrics


def test_a_run_leaves_what_it_promises(run):
  workdir, state, metrics = run
  assert int(state.step) == 6 and np.isfinite(list(metrics.values())).all()
  assert {path.name for path in workdir.iterdir()} == {'config.json', 'checkpoints', 'metrics.jsonl', 'export'}
  assert json.loads((workdir / 'config.json').read_text())['vae']['preset'] == 'tiny'
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  assert [line['step'] for line in lines] == [1, 2, 3, 4, 1, 2, 3, 4, 5, 6]
  assert {
    f'perf/stage1/{name}' for name in ('steps_per_sec', 'images_per_sec', 'data_wait_percent', 'compile_sec')
  } <= set(lines[0])
  restored = lh_jax.Restorer.from_pretrained(workdir).restore(np.zeros((10, 12, 3), np.uint8))
  assert restored.shape == (10, 12, 3)


@pytest.mark.parametrize('done', [2, 3], ids=['within a stretch', 'between two'])
def test_progressive_learning_resumes(run, tmp_path, tiny_config, caplog, done):
  workdir, _, _ = run
  tiny_config.train.update({'stages': ('stage2',), 'init_from': str(workdir), 'keep_checkpoints': 4})
  tiny_config.stage2.update({'restorer_steps': 3, 'lora_steps': 1, 'progressive': ((1, 16, 64), (3, 8, 40))})
  # With the term that makes stage 2 load a foundation model, too.
  tiny_config.stage2.lora_phases = ('decoder_lora',)
  tiny_config.losses.phf_perceptual = 1.0
  state, _ = train.train(tiny_config, tmp_path)
  lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  images = [line['perf/stage2/images_per_sec'] / line['perf/stage2/steps_per_sec'] for line in lines]
  np.testing.assert_allclose(images, [8, 16, 16, 8])
  assert lines[-1]['stage2/decoder_lora_perceptual'] > 0
  for step in range(done + 1, 5):
    shutil.rmtree(tmp_path / 'checkpoints' / 'stage2' / str(step))
  with caplog.at_level('INFO'):
    again, _ = train.train(tiny_config, tmp_path)
  assert f'resuming from step {done} of 4' in caplog.text
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), jax.device_get(state))


def test_stage2_left_the_vae_of_stage1_alone(run, tmp_path, tiny_config):
  """Stage 2 from another run's VAE: the exported VAE is that VAE, bit for bit."""
  workdir, _, _ = run
  tiny_config.train.update({'stages': ('stage2',), 'init_from': str(workdir)})
  tiny_config.stage2.update({'restorer_steps': 1, 'lora_steps': 0})
  tiny_config.profile = True
  train.train(tiny_config, tmp_path)
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))
  before, after = exports.load(workdir).params, exports.load(tmp_path).params
  for part in ('vae', 'latent'):
    jax.tree.map(np.testing.assert_array_equal, after[part], before[part])
  # It goes on with no other VAE.
  shutil.rmtree(tmp_path / 'export')
  other = exports.load(workdir)
  other.params['latent']['mean'] = other.params['latent']['mean'] + 1
  exports.save(tmp_path / 'other' / 'export', other)
  tiny_config.train.init_from = str(tmp_path / 'other')
  with pytest.raises(ValueError, match='another configuration: SHA-256 of the VAE is '):
    train.train(tiny_config, tmp_path)


def test_images_on_the_devices_train_the_same(run, tmp_path, tiny_config, caplog):
  """Stage 1 with the photographs kept there: the same VAE up to how XLA fuses another input."""
  workdir, _, _ = run
  tiny_config.train.stages = ('stage1',)
  tiny_config.data.device_gib = 1.0
  with caplog.at_level('INFO'):
    train.train(tiny_config, tmp_path)
  assert '5 images, 0.0' in caplog.text and 'lie on every device' in caplog.text
  before, after = exports.load(workdir).params, exports.load(tmp_path).params
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after['vae'], before['vae'])


def test_stage1_may_meet_some_tasks_only(tmp_path, tiny_config):
  tiny_config.data.stage1_tasks = ('noise25',)
  run = train.Run(tiny_config, tmp_path)
  drawn = []
  for stage in run.unfinished:
    with run.batches(stage, *stage.stretches) as batches:
      drawn.append({int(task) for _ in range(stage.total_steps) for task in next(batches)['task']})
  assert drawn == [{1}, {0, 1}]


def test_finished_run_does_nothing(run, tiny_config):
  workdir, _, _ = run
  assert train.train(tiny_config, workdir) == (None, {})


def test_diverged(tmp_path, tiny_config):
  """The message names the metric and the steps; what was saved before stays."""
  tiny_config.train.update({'stages': ('stage1',), 'log_steps': 2})
  tiny_config.losses.invariance = float('inf')
  with pytest.raises(logs.TrainingDivergedError, match=r'stage1/\w+ became (nan|inf) between steps 1 and 2 of stage1'):
    train.train(tiny_config, tmp_path)
  assert not list((tmp_path / 'checkpoints' / 'stage1').glob('[0-9]*'))


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'mesh.fsdp': 3}, 'mesh.fsdp=3 x mesh.space=1 must use all 8 devices'),
    ({'stage1.batch_size': 12}, 'batch of 12 does not divide over mesh.data x mesh.fsdp = 8 devices'),
    ({'train.stages': ()}, 'train.stages is empty: name at least one'),
    ({'train.stages': ('stage2',)}, 'stage2 needs a trained VAE: put stage1 in train.stages'),
    ({'train.stages': ('stage2',), 'train.init_from': '/nowhere'}, '/nowhere holds no export'),
    ({'train.stages': ('stage2', 'stage1')}, 'train.stages must name stage1 before stage2'),
    ({'train.log_steps': 0}, 'train.log_steps must be at least 1, got 0'),
    ({'train.seed': -1}, 'train.seed must be at least 0, got -1'),
    ({'stage2.lora_steps': -3}, 'stage2.lora_steps must be at least 0, got -3'),
    ({'stage1.ema_decay': 1.5}, r'stage1.ema_decay must lie in \[0, 1\), got 1.5'),
    ({'data.task_weights': (1.0,)}, 'data.task_weights has 1 values for the 2 data.tasks low_light, noise25'),
    ({'data.stage1_tasks': ('noise25', 'rain')}, 'data.stage1_tasks must be some of data.tasks, but rain are not'),
    ({'restorer.norm': 'foo'}, 'foo'),
    ({'lora.min_kernel': 5}, 'lora.min_kernel=5'),
    ({'losses.hf_cutoff': 0.0}, 'losses.hf_cutoff'),
    ({'data.source': 'internet'}, "unknown source 'internet'; known: embedded"),
    ({'data.source': 'folder'}, 'name it in data.path'),
    ({'data.source': 'folder', 'data.path': '/nowhere'}, '/nowhere'),
    ({'data.tasks': ('fog', 'noise25')}, 'fog'),
    ({'data.severity': (0.5, 2.0)}, r'data.severity must be a range within \[0, 1\]'),
    ({'stage1.crop_size': 512}, 'smaller than'),
    ({'foundation.name': 'dinov2_vits14', 'foundation.weights': '/nowhere.safetensors'}, 'foundation.name=vgg16'),
    ({'vae.preset': 'huge'}, "Unknown vae.preset 'huge'"),
    ({'restorer.name': 'swin'}, 'swin'),
  ],
)
def test_mistakes_are_found_before_training(tmp_path, tiny_config, changes, message):
  tiny_config.update_from_flattened_dict(changes)
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    train.train(tiny_config, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'metrics.jsonl').exists()


def test_folders_of_photographs(tmp_path, tiny_config):
  """An empty folder, an unreadable image, and unpaired or differently sized pairs are named before training."""
  folder = tmp_path / 'photographs'
  folder.mkdir()
  tiny_config.data.update({'source': 'folder', 'path': str(folder)})
  with pytest.raises(ValueError, match='photographs'):
    train.train(tiny_config, tmp_path / 'run')
  (folder / 'broken.png').write_bytes(b'\x89PNG but no more')
  with pytest.raises(ValueError, match='broken.png'):
    train.train(tiny_config, tmp_path / 'run')
  pairs = tmp_path / 'pairs'
  for half, sizes in (('gt', {'a': 64, 'b': 64}), ('input', {'a': 48})):
    (pairs / half).mkdir(parents=True)
    for name, size in sizes.items():
      Image.new('RGB', (size, size)).save(pairs / half / f'{name}.png')
  tiny_config.data.update({'source': 'pairs', 'path': str(pairs)})
  with pytest.raises(ValueError) as error:
    train.train(tiny_config, tmp_path / 'run')
  assert 'a.png: sizes differ' in str(error.value) and 'gt/b has no counterpart in input' in str(error.value)


def test_a_truncated_image_is_found_before_training(tmp_path, tiny_config):
  rng = np.random.default_rng(0)
  image = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
  for name in ('good', 'cut'):
    image.save(tmp_path / f'{name}.jpg')
  (tmp_path / 'cut.jpg').write_bytes((tmp_path / 'good.jpg').read_bytes()[:1500])
  tiny_config.data.update({'source': 'folder', 'path': str(tmp_path)})
  with pytest.raises(ValueError, match=r'the data set has 1 problem\(s\):\n.*cut.jpg'):
    train.train(tiny_config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_run_lost_before_its_export_only_exports(run, tiny_config, tmp_path):
  """Killed between the last checkpoint of stage 2 and its export: the export there is stage 1's."""
  workdir, _, _ = run
  lost = tmp_path / 'lost'
  shutil.copytree(workdir, lost)
  whole = exports.load(workdir)
  params = {name: whole.params[name] for name in ('vae', 'latent')}
  exports.save(lost / 'export', exports.Export(sections=whole.sections, params=params, stage='stage1'))
  state, _ = train.train(tiny_config, lost)
  assert int(state.step) == 6
  jax.tree.map(np.testing.assert_array_equal, exports.load(lost).params, whole.params)


def test_a_checkpoint_that_is_damaged_after_its_export_is_not_missed(run, tiny_config, tmp_path):
  """Stage 2 stands on the export of stage 1, which is whole."""
  workdir = tmp_path / 'damaged'
  shutil.copytree(run[0], workdir)
  for path in (workdir / 'checkpoints' / 'stage1' / '4' / 'identity').iterdir():
    path.write_bytes(b'')
  assert train.train(tiny_config, workdir) == (None, {})
  assert (workdir / 'checkpoints' / 'stage1' / 'damaged-4').is_dir()


def test_checkpoint_of_another_model(run, tiny_config):
  workdir, _, _ = run
  tiny_config.vae.latent_channels = 16
  with pytest.raises(ValueError, match='another configuration: vae.latent_channels is None there and 16 here'):
    train.train(tiny_config, workdir)


def test_more_steps_than_asked_for(run, tiny_config):
  workdir, _, _ = run
  tiny_config.stage1.steps = 2
  with pytest.raises(ValueError, match='has trained stage1 for 4 steps, the configuration asks for 2'):
    train.train(tiny_config, workdir)


def test_stage1_is_not_trained_further_under_a_stage2(run, tiny_config):
  workdir, _, _ = run
  tiny_config.stage1.steps = 6
  with pytest.raises(ValueError, match='has trained stage2 on the VAE of a finished stage1'):
    train.train(tiny_config, workdir)


def test_vae_of_another_shape(run, tmp_path, tiny_config):
  workdir, _, _ = run
  tiny_config.train.update({'stages': ('stage2',), 'init_from': str(workdir)})
  tiny_config.vae.latent_channels = 16
  with pytest.raises(ValueError, match='holds another VAE'):
    train.train(tiny_config, tmp_path)
