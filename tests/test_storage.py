"""lh_jax.storage: a run in a bucket, which here is a folder behind gs://."""

import pathlib
import shutil

from etils.epath import backend
from etils.epath import gpath
import numpy as np
import pytest

from lh_jax import evaluate
from lh_jax import exports
from lh_jax import inference
from lh_jax import logs
from lh_jax import profile
from lh_jax import storage

from tests.conftest import tiny_model

NAMES = (
  'open',
  'exists',
  'isdir',
  'listdir',
  'glob',
  'makedirs',
  'mkdir',
  'rmtree',
  'remove',
  'rename',
  'replace',
  'stat',
)


@pytest.fixture(name='bucket')
def _bucket(tmp_path, monkeypatch):
  """gs://bucket, and the folder that its objects are in."""
  folder = tmp_path / 'objects'
  folder.mkdir()

  def local(value):
    text = str(value)
    return str(folder / text.removeprefix('gs://bucket').lstrip('/')) if text.startswith('gs://') else value

  class Bucket(backend._OsPathBackend):
    pass

  for name in NAMES:
    plain = getattr(backend._OsPathBackend, name)
    setattr(Bucket, name, lambda self, *paths, plain=plain, **options: plain(self, *map(local, paths), **options))
  monkeypatch.setattr(gpath._GPath, '_backend', property(lambda self: Bucket()))
  return storage.path('gs://bucket'), folder


def test_local_paths_are_paths(tmp_path):
  assert storage.path(str(tmp_path)) == tmp_path and isinstance(storage.path('a'), pathlib.Path)
  with storage.staged(tmp_path) as folder, storage.fetched(tmp_path / 'a') as file:
    assert folder is tmp_path and file == tmp_path / 'a'


def test_files_come_and_go_whole(bucket):
  remote, folder = bucket
  with storage.staged(remote / 'run' / 'export') as local:
    (local / 'sub').mkdir()
    (local / 'sub' / 'a').write_text('text')
    assert not (folder / 'run').exists()
  assert (folder / 'run' / 'export' / 'sub' / 'a').read_text() == 'text'
  with pytest.raises(RuntimeError, match='half way'), storage.staged(remote / 'broken') as local:
    (local / 'a').write_text('half')
    raise RuntimeError('half way')
  assert not (folder / 'broken').exists()
  with storage.fetched(remote / 'run' / 'export' / 'sub' / 'a') as local:
    assert local.read_text() == 'text' and local.is_file()
  assert not local.exists()


@pytest.mark.parametrize('remote', [False, True])
def test_lines_are_there_when_written(bucket, tmp_path, remote):
  file = bucket[0] / 'metrics.jsonl' if remote else tmp_path / 'metrics.jsonl'
  for text in 'ab':
    lines = storage.Lines(file)
    lines.write(text)
    assert file.read_text().endswith(text + '\n')
    lines.close()
  assert file.read_text() == 'a\nb\n'


def test_a_run_in_a_bucket(bucket, tmp_path, tiny_config):
  """Metrics, export, evaluation, trace; checkpoints are orbax's."""
  remote, folder = bucket
  workdir = remote / 'run'
  with logs.Logs(workdir, tensorboard=False) as writers:
    writers.scalars(1, {'stage1/total': 0.5})
  assert 'stage1/total' in (folder / 'run' / 'metrics.jsonl').read_text()
  networks, params = tiny_model()
  del networks
  sections = {name: tiny_config[name].to_dict() for name in ('vae', 'restorer', 'lora')}
  exports.save(workdir / 'export', exports.Export(sections=sections, params=params, stage='stage2'))
  assert exports.stage_of(workdir) == 'stage2' and exports.stage_of(remote / 'nothing') is None
  shutil.copytree(folder / 'run' / 'export', tmp_path / 'copy')
  image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
  outputs = [inference.Restorer.from_pretrained(path).restore(image) for path in ('gs://bucket/run', tmp_path / 'copy')]
  np.testing.assert_array_equal(*outputs)
  tiny_config.evaluate.update({'lpips': 'none', 'report_images': 1})
  evaluate.evaluate(tiny_config, workdir)
  assert {path.name for path in (folder / 'run' / 'evaluation').iterdir()} == {
    'images.csv',
    'results.json',
    'table.md',
    'comparison.png',
    'report.html',
  }
  with profile.Profiler(workdir / 'profile', first=1, last=1) as profiler, profiler.step(1, 'stage'):
    pass
  assert list((folder / 'run' / 'profile').rglob('*.xplane.pb'))
