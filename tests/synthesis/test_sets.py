"""Test sets in files: what `data.pairs` reads, resuming, the manifest, and what is refused."""

import hashlib
import json
import os

import numpy as np
from PIL import Image
import pytest

from lh_jax import synthesis
from lh_jax.data import image_files
from lh_jax.data import sources
from lh_jax.synthesis import sets

TASKS = ('haze', 'noise25')


@pytest.fixture(name='photographs')
def _photographs(tmp_path):
  """Two photographs, one in a sub-folder."""
  rng = np.random.default_rng(0)
  for name, size in (('a.jpg', (24, 32)), ('sub/b.png', (20, 40))):
    path = tmp_path / 'photographs' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
  return tmp_path / 'photographs'


def write(photographs, out, **options):
  return sets.write_sets(sources.folder(photographs), out, tell=lambda line: None, **{'tasks': TASKS} | options)


def manifest(out):
  return json.loads((out / sets.MANIFEST).read_text())


def test_pairs_are_what_the_rule_says_and_are_read_as_pairs(photographs, tmp_path):
  done = write(photographs, tmp_path / 'out', severity=0.6, seed=2)
  assert (done.pairs, done.skipped, done.failed) == (4, 0, [])
  found = {item['name']: item for item in sources.build('pairs', path=tmp_path / 'out')}
  assert sorted(found) == ['haze/a.png', 'haze/sub/b.png', 'noise25/a.png', 'noise25/sub/b.png']
  for clean in sources.folder(photographs):
    for task in TASKS:
      item = found[f'{task}/{clean["name"].replace(".jpg", ".png")}']
      np.testing.assert_array_equal(item['clean'], clean['clean'])
      expected = synthesis.synthesise(clean['clean'], name=clean['name'], task=task, severity=0.6, seed=2)
      np.testing.assert_array_equal(item['degraded'], expected)


def test_the_manifest_tells_settings_versions_and_hashes(photographs, tmp_path):
  write(photographs, tmp_path / 'out', size=(20, 16))
  found = manifest(tmp_path / 'out')
  assert found['settings'] == {'severity': 0.5, 'seed': 0, 'size': [20, 16]}
  assert set(found['versions']) == {'lh_jax', 'jax', 'platform'}
  assert len(found['files']) == 8
  for name, sha256 in found['files'].items():
    assert hashlib.sha256((tmp_path / 'out' / name).read_bytes()).hexdigest() == sha256
    assert image_files.size(tmp_path / 'out' / name) == (16, 20)
  assert set(found['photographs']) == {'a.jpg', 'sub/b.png'}


def test_running_again_goes_on_where_it_was_interrupted(photographs, tmp_path):
  out = tmp_path / 'out'
  write(photographs, out)
  before = manifest(out)
  whole, missing, damaged = (
    out / 'haze' / 'input' / 'a.png',
    out / 'noise25/gt/sub/b.png',
    out / 'haze/input/sub/b.png',
  )
  written = os.stat(whole).st_mtime_ns
  missing.unlink()
  damaged.write_bytes(damaged.read_bytes()[:100])
  done = write(photographs, out)
  assert (done.pairs, done.skipped) == (2, 2)
  assert os.stat(whole).st_mtime_ns == written
  assert manifest(out) == before
  assert hashlib.sha256(missing.read_bytes()).hexdigest() == before['files']['noise25/gt/sub/b.png']
  # Another task joins; it does not change what is there.
  assert write(photographs, out, tasks=(*TASKS, 'noise15')).pairs == 2
  assert manifest(out)['files'].items() > before['files'].items()


def test_without_hard_links_the_clean_half_is_copied(photographs, tmp_path, monkeypatch):
  def refuse(*paths):
    raise OSError('no links here')

  monkeypatch.setattr(os, 'link', refuse)
  write(photographs, tmp_path / 'out')
  one, other = (tmp_path / 'out' / task / 'gt' / 'a.png' for task in TASKS)
  assert one.read_bytes() == other.read_bytes() and one.stat().st_ino != other.stat().st_ino


def test_one_damaged_photograph_does_not_stop_the_others(photographs, tmp_path):
  path = photographs / 'a.jpg'
  path.write_bytes(path.read_bytes()[:700])
  done = write(photographs, tmp_path / 'out')
  assert done.pairs == 2
  assert len(done.failed) == 1 and done.failed[0].startswith('a.jpg: cannot read image file')
  assert not (tmp_path / 'out' / 'haze' / 'gt' / 'a.png').exists()


def test_a_photograph_that_changed_is_named(photographs, tmp_path):
  write(photographs, tmp_path / 'out')
  Image.new('RGB', (32, 24), 'red').save(photographs / 'a.jpg')
  done = write(photographs, tmp_path / 'out')
  assert done.failed == ['a.jpg: the photograph has changed since its pairs were written: name a new folder']


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'tasks': ('fog',)}, 'cannot synthesise fog'),
    ({'severity': -0.1}, 'severity is -0.1'),
    ({'seed': -1}, 'seed is -1'),
    ({'size': (36, 16)}, r'has 1 problem\(s\):\n  a.jpg: 32x24 is smaller than 36x16; nothing is enlarged'),
  ],
)
def test_bad_settings_are_errors_before_anything_is_written(photographs, tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    write(photographs, tmp_path / 'out', **options)
  assert not (tmp_path / 'out').exists()


def test_photographs_of_one_name_are_an_error(photographs, tmp_path):
  Image.new('RGB', (32, 24)).save(photographs / 'A.png')
  with pytest.raises(ValueError, match='A.png and a.jpg would both become a.png; rename one of them'):
    write(photographs, tmp_path / 'out')


def test_other_settings_and_other_files_are_left_alone(photographs, tmp_path):
  out = tmp_path / 'out'
  write(photographs, out, tasks=('noise25',))
  before = manifest(out)
  with pytest.raises(ValueError, match=r"was begun with settings \{'severity': 0.5, .* not .*0.6.* name a new folder"):
    write(photographs, out, severity=0.6)
  (out / sets.MANIFEST).write_text(json.dumps(before | {'versions': {'jax': '0.1'}}))
  with pytest.raises(ValueError, match="was begun with versions {'jax': '0.1'}, not"):
    write(photographs, out)
  for text in ('{', '[]', '{}'):
    (out / sets.MANIFEST).write_text(text)
    with pytest.raises(ValueError, match='is not a manifest of synthesised test sets'):
      write(photographs, out)
  (out / sets.MANIFEST).unlink()
  with pytest.raises(ValueError, match='holds files but no manifest.json: name a new folder'):
    write(photographs, out)
