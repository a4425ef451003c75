"""Crops read back: where they lie, what they hold, and what a damaged or foreign folder says."""

import json

import numpy as np
import pytest

from lh_jax.data import crops
from lh_jax.data import datasets
from lh_jax.data import image_files
from lh_jax.data import pipeline
from lh_jax.data import prepare
from lh_jax.data import sources


@pytest.fixture(name='prepared')
def _prepared(tmp_path, published):
  """A data set and the crops of its training images."""
  folder = published(tmp_path / 'set', 'uhd_ll', train=5)
  out = tmp_path / 'crops'
  prepare.prepare(folder, out, datasets.find('uhd_ll'), size=24, overlap=8, images_per_file=3, split='train+val')
  return folder, out


@pytest.mark.parametrize(['size', 'overlap'], [(16, 0), (16, 4), (16, 15), (40, 8), (50, 0)])
def test_the_grid_covers_the_image(size, overlap):
  covered = np.zeros((50, 73), bool)
  places = crops.grid(50, 73, size=size, overlap=overlap)
  for top, left in places:
    assert 0 <= top <= 50 - size and 0 <= left <= 73 - size
    covered[top : top + size, left : left + size] = True
  assert covered.all() and len(places) == len(set(places))
  lefts = sorted({left for _, left in places})
  assert all(right - left <= size - overlap for left, right in zip(lefts, lefts[1:]))


def test_a_4k_image():
  assert len(crops.grid(2160, 3840, size=512, overlap=64)) == 5 * 9


def test_grid_errors():
  for size, overlap in ((16, 16), (16, -1), (0, 0)):
    with pytest.raises(ValueError, match='crops need 0 <= overlap < size, got overlap'):
      crops.grid(50, 50, size=size, overlap=overlap)
  with pytest.raises(ValueError, match='image of 50x15 is smaller than a crop of 16'):
    crops.grid(50, 15, size=16, overlap=0)


def test_crops_are_windows_of_the_files(prepared):
  folder, out = prepared
  source = sources.build('crops', path=out, split='train+val')
  assert len(source) == 5 * 2 * 3
  for index, item in enumerate(source.items):
    sample = source[index]
    name, _, place = item.name.partition('@')
    top, left = map(int, place.split(','))
    assert sample['name'] == item.name and sample['task'] == 'low_light' and (item.height, item.width) == (24, 24)
    for half, sub_folder in (('clean', 'gt'), ('degraded', 'input')):
      whole = image_files.read_rgb(folder / 'train' / sub_folder / name.removeprefix('uhd_ll/'))
      np.testing.assert_array_equal(sample[half], whole[top : top + 24, left : left + 24])


def test_records_describe_themselves(prepared):
  _, out = prepared
  reader = crops.array_record_module.ArrayRecordReader(str(out / 'crops-00001.array_record'))
  record = crops.unpack(reader.read([1])[0])
  assert {name: record[name] for name in ('name', 'task', 'split', 'top', 'left')} == {
    'name': 'uhd_ll/0003.png',
    'task': 'low_light',
    'split': 'train+val',
    'top': 0,
    'left': 16,
  }
  assert record['clean'].shape == record['degraded'].shape == (24, 24, 3)


def test_clean_images_alone(tmp_path, published):
  folder = published(tmp_path / 'set', 'uhd_noise')
  prepare.prepare(folder, tmp_path / 'crops', datasets.find('uhd_noise'), size=40, overlap=0, split='test')
  source = crops.source(tmp_path / 'crops', split='test')
  assert set(source[0]) == {'name', 'task', 'clean'} and source.items[0].degraded is None


def test_training_batches_of_crops(prepared):
  _, out = prepared
  source = crops.source(out, split='train+val')
  options = {'tasks': ('low_light',), 'task_weights': (1.0,), 'batch_size': 4, 'crop_size': 16, 'seed': 0}
  with pipeline.training_batches(source, **options, num_steps=2, start_step=0, num_threads=2, prefetch=1) as batches:
    batch = next(batches)
  assert batch['clean'].shape == batch['degraded'].shape == (4, 16, 16, 3)
  assert (batch['clean'] != batch['degraded']).any()


def test_several_sets(tmp_path, published):
  for name in ('uhd_ll', 'uhd_haze'):
    folder = published(tmp_path / name, name)
    for split in ('train', 'test'):
      prepare.prepare(
        folder, tmp_path / 'crops' / f'{name}_{split}', datasets.find(name), size=40, overlap=0, split=split
      )
  source = sources.build('crops', path=tmp_path / 'crops', split='test')
  assert {item.name.split('/')[0] for item in source.items} == {'uhd_ll', 'uhd_haze'} and len(source) == 2 * 2 * 2
  with pytest.raises(ValueError, match='holds no crops of the split val, only of test, train: prepare it'):
    sources.build('crops', path=tmp_path / 'crops', split='val')
  again = tmp_path / 'crops' / 'zz'
  prepare.prepare(tmp_path / 'uhd_ll', again, datasets.find('uhd_ll'), size=40, overlap=0, split='test')
  with pytest.raises(ValueError, match='zz and uhd_ll_test both hold uhd_ll; keep one of them'):
    sources.build('crops', path=tmp_path / 'crops', split='test')


def test_no_manifest(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no manifest.json: make crops with python -m lh_jax.data prepare'):
    sources.build('crops', path=tmp_path)
  (tmp_path / 'manifest.json').write_text('{')
  with pytest.raises(ValueError, match='manifest.json. is damaged: .*remove it and prepare the crops again'):
    crops.source(tmp_path)
  (tmp_path / 'manifest.json').write_text('{"format": 99}')
  with pytest.raises(ValueError, match='is no manifest of crops in format 1; prepare'):
    crops.source(tmp_path)


def test_unfinished_and_damaged_folders(prepared):
  _, out = prepared
  file = out / 'crops-00000.array_record'
  data = bytearray(file.read_bytes())
  data[10_000:10_100] = bytes(100)  # behind the last record there are only zeros
  file.write_bytes(data)
  source = crops.source(out, split='train+val', cache_gib=0)
  with pytest.raises(ValueError, match=r"cannot read crop \d+ of '.*crops-00000.array_record': .*; prepare it again"):
    for index in range(18):
      source[index]
  file.write_bytes(data[:-10])
  (out / 'crops-00001.array_record').unlink()
  with pytest.raises(ValueError) as caught:
    crops.source(out, split='train+val')
  assert 'crops-00000.array_record has' in str(caught.value) and 'run the same prepare command again' in str(
    caught.value
  )
  assert 'crops-00001.array_record is missing' in str(caught.value)
  manifest = json.loads((out / 'manifest.json').read_text())
  (out / 'manifest.json').write_text(json.dumps(manifest | {'complete': False}))
  with pytest.raises(ValueError, match='crops: is not finished; run the same prepare'):
    crops.source(out, split='train+val')
