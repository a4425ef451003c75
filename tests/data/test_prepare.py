"""Preparing crops: the same bytes whatever happens on the way, and nothing prepared from a broken data set."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from lh_jax.data import __main__ as command_line
from lh_jax.data import crops
from lh_jax.data import datasets
from lh_jax.data import image_files
from lh_jax.data import prepare
from lh_jax.data import splits
from tests.conftest import ROOT

DATASET = datasets.find('uhd_ll')
OPTIONS = {'size': 24, 'overlap': 8, 'images_per_file': 2, 'split': 'train+val'}


@pytest.fixture(name='folder')
def _folder(tmp_path, published):
  return published(tmp_path / 'set', 'uhd_ll', train=5)


def contents(folder):
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class Killed(BaseException):
  """As good as a signal: nothing catches it."""


def test_the_manifest_tells_everything(folder, tmp_path):
  calls = []
  manifest = prepare.prepare(folder, tmp_path / 'out', DATASET, **OPTIONS, advance=lambda *args: calls.append(args))
  assert manifest == json.loads((tmp_path / 'out' / 'manifest.json').read_text())
  assert calls == [(done, 5) for done in range(1, 6)]
  assert manifest['complete'] and manifest['images'] == 5 and manifest['crops'] == 5 * 6
  assert manifest['settings'] == {'size': 24, 'overlap': 8, 'images_per_file': 2}
  assert set(manifest['versions']) == {'lh_jax', 'array_record', 'imagecodecs', 'msgpack', 'pillow'}
  for shard in manifest['shards']:
    data = (tmp_path / 'out' / shard['file']).read_bytes()
    assert (shard['bytes'], shard['sha256']) == (len(data), hashlib.sha256(data).hexdigest())
  source = manifest['sources'][3]
  assert source['name'] == 'uhd_ll/0003.png' and (source['height'], source['width'], source['crops']) == (40, 50, 6)
  data = (folder / source['degraded']['file']).read_bytes()
  assert source['degraded']['file'] == 'train/input/0003.png'
  assert source['degraded']['sha256'] == hashlib.sha256(data).hexdigest()


def test_a_count_that_is_not_the_published_one_is_told(folder, tmp_path, caplog):
  prepare.prepare(folder, tmp_path / 'out', DATASET, **OPTIONS)
  assert 'UHD-LL: ' in caplog.text and '2000' in caplog.text


@pytest.mark.parametrize('threads', [1, 3])
def test_the_same_bytes_every_time(folder, tmp_path, threads):
  prepare.prepare(folder, tmp_path / 'a', DATASET, **OPTIONS)
  prepare.prepare(folder, tmp_path / 'b', DATASET, **OPTIONS, threads=threads)
  assert contents(tmp_path / 'a') == contents(tmp_path / 'b')


@pytest.mark.parametrize('after', range(6))
def test_a_killed_run_goes_on(folder, tmp_path, monkeypatch, after):
  """Killed at the first, second, ... crop of a file, the next run ends with the bytes of one that was not."""
  prepare.prepare(folder, tmp_path / 'whole', DATASET, **OPTIONS)
  pack, packed = crops.pack, []

  def dying(*args, **kwargs):
    packed.append(args)
    if len(packed) > 5 * after:
      raise Killed
    return pack(*args, **kwargs)

  monkeypatch.setattr(crops, 'pack', dying)
  with pytest.raises(Killed):
    prepare.prepare(folder, tmp_path / 'out', DATASET, **OPTIONS, threads=1)
  with pytest.raises(ValueError, match='is not finished'):
    crops.source(tmp_path / 'out', split='train+val')
  monkeypatch.setattr(crops, 'pack', pack)
  prepare.prepare(folder, tmp_path / 'out', DATASET, **OPTIONS)
  assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')


def test_what_a_killed_process_left_is_removed(folder, tmp_path):
  """A process that is ended in the middle of a file, as the system would end it."""
  program = (
    'import os, sys; from lh_jax.data import crops, datasets, prepare; pack, packed = crops.pack, []\n'
    'crops.pack = lambda *a, **k: os._exit(9) if packed.append(a) or len(packed) > 16 else pack(*a, **k)\n'
    f'prepare.prepare(sys.argv[1], sys.argv[2], datasets.find("uhd_ll"), **{OPTIONS!r})'
  )
  out = tmp_path / 'out'
  done = subprocess.run([sys.executable, '-c', program, str(folder), str(out)], cwd=ROOT, check=False)
  assert done.returncode == 9 and any(path.name.endswith('.tmp') for path in out.iterdir())
  assert not json.loads((out / 'manifest.json').read_text())['complete']
  prepare.prepare(folder, out, DATASET, **OPTIONS)
  prepare.prepare(folder, tmp_path / 'whole', DATASET, **OPTIONS)
  assert contents(out) == contents(tmp_path / 'whole')


def test_finished_files_are_verified_and_kept(folder, tmp_path, monkeypatch):
  out = tmp_path / 'out'
  prepare.prepare(folder, out, DATASET, **OPTIONS)
  before = contents(out)
  written, write = [], crops.write_shard
  monkeypatch.setattr(crops, 'write_shard', lambda path, records: written.append(path.name) or write(path, records))
  prepare.prepare(folder, out, DATASET, **OPTIONS)
  assert not written
  damaged = bytearray(before['crops-00001.array_record'])
  damaged[100] ^= 1
  (out / 'crops-00001.array_record').write_bytes(damaged)
  (out / 'crops-00002.array_record').unlink()
  prepare.prepare(folder, out, DATASET, **OPTIONS)
  assert written == ['crops-00001.array_record', 'crops-00002.array_record'] and contents(out) == before


def test_changed_images_are_cut_again(folder, tmp_path):
  out = tmp_path / 'out'
  prepare.prepare(folder, out, DATASET, **OPTIONS)
  image_files.write_image(folder / 'train' / 'gt' / '0000.png', np.zeros((40, 50, 3), np.uint8))
  for half in ('gt', 'input'):
    (folder / 'train' / half / '0004.png').unlink()
  prepare.prepare(folder, out, DATASET, **OPTIONS)
  source = crops.source(out, split='train+val')
  assert len(source) == 4 * 6 and not source[0]['clean'].any()
  assert sorted(contents(out)) == ['crops-00000.array_record', 'crops-00001.array_record', 'manifest.json']


def test_other_options_need_another_folder(folder, tmp_path, monkeypatch):
  out = tmp_path / 'out'
  prepare.prepare(folder, out, DATASET, **OPTIONS)
  with pytest.raises(
    ValueError, match="holds crops made otherwise: split was train.val, now train; settings was .*'over"
  ):
    prepare.prepare(folder, out, DATASET, **OPTIONS | {'overlap': 0, 'split': 'train'})
  monkeypatch.setattr(prepare.importlib.metadata, 'version', lambda name: '0')
  prepare.prepare(folder, out, DATASET, **OPTIONS)  # nothing is left to do, so that no two versions are mixed
  (out / 'crops-00001.array_record').unlink()
  with pytest.raises(ValueError, match='holds crops made otherwise: versions was'):
    prepare.prepare(folder, out, DATASET, **OPTIONS)


def test_splits_do_not_mix(folder, tmp_path):
  names = {}
  for split in splits.SPLITS:
    manifest = prepare.prepare(folder, tmp_path / split, DATASET, **OPTIONS | {'split': split})
    names[split] = {source['name'] for source in manifest['sources']}
  assert names['train'] | names['val'] == names['train+val'] and not names['train'] & names['val']
  assert len(names['val']) == 1 and len(names['test']) == 2


def test_nothing_is_prepared_from_a_broken_data_set(folder, tmp_path):
  train = folder / 'train'
  (train / 'gt' / '0000.png').unlink()
  (train / 'gt' / '0001.png').write_bytes(b'')
  image_files.write_image(train / 'gt' / '0002.png', np.zeros((41, 50, 3), np.uint8))
  image_files.write_image(train / 'gt' / '0003.jpg', np.zeros((40, 50, 3), np.uint8))
  (train / 'gt' / '0003.jpg').replace(train / 'gt' / '0003.png')
  with pytest.raises(ValueError) as caught:
    prepare.prepare(folder, tmp_path / 'out', DATASET, **OPTIONS)
  for part in (
    'has 4 problem(s)',
    '0000.png has no clean',
    '0001.png: is empty',
    '41x50 clean',
    'those of a .jpg file',
  ):
    assert part in str(caught.value)
  assert not (tmp_path / 'out').exists()


def test_renamed_files_can_be_accepted(folder, tmp_path):
  image_files.write_image(folder / 'train' / 'gt' / '0003.jpg', np.zeros((40, 50, 3), np.uint8))
  (folder / 'train' / 'gt' / '0003.jpg').replace(folder / 'train' / 'gt' / '0003.png')
  with pytest.raises(ValueError, match='its bytes are those of a .jpg file'):
    prepare.prepare(folder, tmp_path / 'out', DATASET, **OPTIONS)
  assert prepare.prepare(folder, tmp_path / 'out', DATASET, **OPTIONS, accept_renamed=True)['images'] == 5


def test_options_and_sizes_are_checked_first(folder, tmp_path):
  out = tmp_path / 'out'
  with pytest.raises(ValueError, match='images_per_file and threads must be positive, got 0 and 2'):
    prepare.prepare(folder, out, DATASET, images_per_file=0)
  with pytest.raises(ValueError, match='crops need 0 <= overlap < size'):
    prepare.prepare(folder, out, DATASET, size=8, overlap=8)
  with pytest.raises(ValueError, match='uhd_ll/0000.png is 40x50, smaller than a crop of 41: choose a smaller size'):
    prepare.prepare(folder, out, DATASET, size=41, overlap=0)
  with pytest.raises(FileNotFoundError, match='UHD-LL is downloaded by hand'):
    prepare.prepare(tmp_path / 'none', out, DATASET)
  with pytest.raises(ValueError, match="unknown split 'dev' of a published data set"):
    prepare.prepare(folder, out, DATASET, split='dev')


def test_orientation_is_applied(folder, tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6
  for half in ('gt', 'input'):
    (folder / 'train' / half / '0000.png').unlink()
    Image.fromarray(np.zeros((50, 40, 3), np.uint8)).save(folder / 'train' / half / '0000.jpg', exif=exif)
  manifest = prepare.prepare(folder, tmp_path / 'out', DATASET, **OPTIONS)
  assert (manifest['sources'][0]['height'], manifest['sources'][0]['width']) == (40, 50)


def test_command_line(folder, tmp_path, capsys, monkeypatch):
  out = str(tmp_path / 'out')
  arguments = ['prepare', str(folder), out, '--dataset', 'uhd_ll', '--size', '24', '--overlap', '8']
  arguments += ['--images-per-file', '2', '--split', 'train+val', '--threads', '1']
  assert command_line.main(arguments) == 0
  assert '30 crops of 5 images in 3 file(s)' in capsys.readouterr().out
  assert command_line.main([*arguments, '--size', '16']) == 1
  assert 'error: ' in (said := capsys.readouterr().err) and 'holds crops made otherwise' in said
  monkeypatch.setitem(datasets.DATASETS, 'uhd_ll', dataclasses.replace(DATASET, counts=()))
  assert command_line.main(['check', str(folder), '--dataset', 'uhd_ll', '--deep']) == 0
