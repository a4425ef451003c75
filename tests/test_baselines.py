"""lh_jax.Baseline and lh-restore with a published network on pixels: a tiny one, from an official-looking file on."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from lh_jax import baselines
from lh_jax import convert
from lh_jax import memory
from lh_jax import options as options_lib
from lh_jax import restore
from lh_jax import weight_files
from lh_jax.models.restorers import pixel

NAME = 'nafnet_gopro_width32'
TINY = {'name': 'nafnet', 'width': 4, 'blocks': (1, 1, 1), 'padding': 'zero'}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
  monkeypatch.setitem(pixel.NETWORKS, NAME, TINY)


def official():
  """A checkpoint with random tensors under the official names, written apart from the converter's table."""
  shapes = {
    'intro.weight': (4, 3, 3, 3),
    'intro.bias': (4,),
    'downs.0.weight': (8, 4, 2, 2),
    'downs.0.bias': (8,),
    'ups.0.0.weight': (16, 8, 1, 1),
    'ending.weight': (3, 4, 3, 3),
    'ending.bias': (3,),
  }
  for prefix, c in (('encoders.0.0', 4), ('middle_blks.0', 8), ('decoders.0.0', 4)):
    for layer, out, fan_in, side in (
      ('conv1', 2 * c, c, 1),
      ('conv2', 2 * c, 1, 3),
      ('conv3', c, c, 1),
      ('sca.1', c, c, 1),
      ('conv4', 2 * c, c, 1),
      ('conv5', c, c, 1),
    ):
      shapes |= {f'{prefix}.{layer}.weight': (out, fan_in, side, side), f'{prefix}.{layer}.bias': (out,)}
    shapes |= {f'{prefix}.{norm}.{leaf}': (c,) for norm in ('norm1', 'norm2') for leaf in ('weight', 'bias')}
    shapes |= {f'{prefix}.{scale}': (1, c, 1, 1) for scale in ('beta', 'gamma')}
  rng = np.random.default_rng(0)
  return {name: 0.2 * rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


@pytest.fixture(name='file')
def _file(tmp_path):
  source = tmp_path / 'published.safetensors'
  weight_files.save(source, official())
  path, written = convert.convert_file(NAME, source, tmp_path / 'converted.safetensors')
  assert written and weight_files.load(path)[1]['licence'] == 'MIT'
  return path


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_the_networks_own_result(file, dtype):
  pixels = np.random.default_rng(1).uniform(0.2, 0.8, (7, 10, 3))
  image = pixels.astype(dtype) if dtype == np.float32 else (pixels * np.iinfo(dtype).max).astype(dtype)
  restored = baselines.Baseline.from_file(file).restore(image)
  assert restored.shape == image.shape and restored.dtype == dtype and (restored != image).any()
  levels = 1 if dtype == np.float32 else np.iinfo(dtype).max
  module, variables = pixel.build(NAME), weight_files.load(file)[0]
  expected = module.apply(variables, jnp.asarray(image, jnp.float32)[None] / levels, train=False)[0]
  expected = np.clip(expected, 0, 1).astype(np.float64) * levels
  assert np.abs(restored - expected).max() <= (1e-6 if levels == 1 else 0.5 + 1e-6 * levels)


def test_programs_are_kept_but_not_all(file, monkeypatch):
  monkeypatch.setattr(baselines, 'MAX_PROGRAMS', 1)
  baseline = baselines.Baseline.from_file(file)
  done = []
  for width in (4, 4, 6):
    baseline.run(np.zeros((4, width, 3), np.uint8), progress=done.append)
  assert len(baseline._programs) == 1 and done == [1.0] * 3


def test_memory(file, monkeypatch):
  baseline = baselines.Baseline.from_file(file)
  image = np.zeros((8, 8, 3), np.uint8)
  with pytest.raises(MemoryError, match=r'an image of 8x8 pixels and 0 MiB are allowed; it sees the whole image'):
    baseline.run(image, max_memory=1)
  assert baseline.run(image, max_memory=2**30).window is None
  monkeypatch.setattr(memory, 'available', lambda device: 10)
  with pytest.raises(MemoryError, match='0 MiB are free; it sees the whole image, so there are no tiles'):
    baseline.run(image)
  monkeypatch.undo()
  monkeypatch.setitem(pixel.NETWORKS, NAME, TINY)

  def full(*_):
    raise RuntimeError('RESOURCE_EXHAUSTED: out of memory')

  monkeypatch.setattr(jax, 'device_put', full)
  with pytest.raises(MemoryError, match='Memory ran out while nafnet_gopro_width32 restored an image of 8x8'):
    baseline.run(image)
  monkeypatch.setattr(jax, 'device_put', lambda *_: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    baseline.run(image)


def test_results_that_are_not_finite(file):
  variables = weight_files.load(file)[0]
  image = np.full((4, 4, 3), 100, np.uint8)
  kernel = variables['params']['conv_out']['kernel']
  kernel[0, 0, 0, 0] = np.nan
  with pytest.raises(FloatingPointError, match='gave non-finite values in float32: its weights are damaged'):
    baselines.Baseline(NAME, variables).run(image)
  # Finite in float32, infinite in bfloat16, whose largest number is a little smaller.
  variables = jax.tree.map(np.zeros_like, variables)
  variables['params']['conv_out']['bias'][:] = 3.4e38
  restored = baselines.Baseline(NAME, variables, dtype='bfloat16').run(image)
  assert restored.notes == ('non-finite values in bfloat16, computed again in float32',)
  np.testing.assert_array_equal(restored.image, 255)


def test_the_file_is_read_once(file, monkeypatch):
  reads, load = [], weight_files.load
  monkeypatch.setattr(weight_files, 'load', lambda *given: reads.append(given) or load(*given))
  baselines.Baseline.from_file(file)
  assert len(reads) == 1


@pytest.mark.parametrize('change', ['missing', 'extra', 'unfit'])
def test_every_unfit_tensor_is_named(file, change):
  tree, metadata = weight_files.load(file)
  flat = weight_files.flatten(tree)
  bias = flat.pop('params/conv_in/bias')
  changes = {
    'missing': ({}, 'missing: params/conv_in/bias (4,)'),
    'extra': ({'params/conv_in/bias': bias, 'params/more': bias}, 'extra: params/more (4,)'),
    'unfit': ({'params/conv_in/bias': bias.astype(np.int32)}, 'dtype: params/conv_in/bias is int32, expected float32'),
  }
  weight_files.save(file, weight_files.unflatten(flat | changes[change][0]), metadata)
  with pytest.raises(ValueError) as error:
    baselines.Baseline.from_file(file)
  assert str(error.value).splitlines()[1:] == [f'  {changes[change][1]}']


def test_by_name(file, tmp_path, monkeypatch):
  monkeypatch.setenv('LH_JAX_CACHE', str(tmp_path))
  with pytest.raises(ValueError, match=f'{NAME} is not converted yet: .*python -m lh_jax.convert {NAME}'):
    baselines.Baseline.from_file(NAME)
  file.rename(tmp_path / f'{NAME}.safetensors')
  assert baselines.Baseline.from_file(NAME).name == NAME
  with pytest.raises(ValueError, match='is a file as it was published: convert it with'):
    baselines.Baseline.from_file(tmp_path / 'weights.pth')


def test_other_files(tmp_path):
  weight_files.save(tmp_path / 'x.safetensors', {'a': np.zeros(2)}, {'name': 'dinov2_vits14'})
  with pytest.raises(ValueError, match="holds no network that restores images: its metadata names 'dinov2_vits14'"):
    baselines.Baseline.from_file(tmp_path / 'x.safetensors')
  weight_files.save(tmp_path / 'y.safetensors', {'a': np.zeros(2)}, {'name': NAME})
  with pytest.raises(ValueError, match='tensors do not match the model'):
    baselines.Baseline.from_file(tmp_path / 'y.safetensors')
  with pytest.raises(FileNotFoundError, match='no such weight file'):
    baselines.Baseline.from_file(tmp_path / 'z.safetensors')


def test_the_command(file, tmp_path, capsys):
  Image.fromarray(np.full((5, 9, 3), 90, np.uint8)).save(tmp_path / 'in.png')
  report = tmp_path / 'report.json'
  command = [str(tmp_path / 'in.png'), '-o', str(tmp_path / 'out.png'), '--checkpoint', str(file)]
  assert restore.main([*command, '--report', str(report)]) == 0
  assert np.asarray(Image.open(tmp_path / 'out.png')).shape == (5, 9, 3)
  (row,) = json.loads(report.read_text())['files']
  assert row['status'] == 'restored' and row['alpha'] is None and row['window'] is None
  for name, value in (('alpha', '1'), ('tile', '256'), ('devices', '2')):
    with pytest.raises(SystemExit, match='2'):
      restore.main([*command, f'--{name}', value, '--overwrite'])
    assert f'restores a whole image on one device and in one way: it takes no {name}' in capsys.readouterr().err


def test_the_options():
  with pytest.raises(ValueError, match='it takes no alpha and no tile and no devices'):
    options_lib.Options(checkpoint='x.safetensors', alpha=0.5, tile=256, devices=2)
  assert options_lib.Options(checkpoint='x.safetensors', tile='full').on_pixels
  assert not options_lib.Options(checkpoint='runs/quickstart', alpha=0.5).on_pixels


def test_mode_restore(file, tmp_path, tiny_config):
  Image.fromarray(np.full((4, 4, 3), 90, np.uint8)).save(tmp_path / 'in.png')
  tiny_config.restore.update({'input': str(tmp_path / 'in.png'), 'output': str(tmp_path / 'out.png')})
  tiny_config.restore.checkpoint = str(file)
  assert restore.restore_config(tiny_config, tmp_path) == 0
  tiny_config.restore.alpha = 0.7
  with pytest.raises(ValueError, match='it takes no alpha'):
    restore.restore_config(tiny_config, tmp_path)
