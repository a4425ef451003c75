"""The builders of TensorFlow Datasets: what they store is what is in the files, readable without TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest

from lh_jax.data import builders
from lh_jax.data import datasets
from lh_jax.data import image_files
from tests.conftest import ROOT

tfds = builders.tfds
# TensorFlow's, protobuf's and etils' own.
pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::ResourceWarning')


def prepared(name, folder, out):
  builder = builders.BUILDERS[name](data_dir=str(out), file_format='array_record')
  builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(folder)))
  return builder


def test_examples_are_the_files(tmp_path, published):
  folder = published(tmp_path / 'set', 'uhd_ll')
  builder = prepared('uhd_ll', folder, tmp_path / 'out')
  counts = {split: info.num_examples for split, info in builder.info.splits.items()}
  assert counts == {'train': 3, 'val': 1, 'test': 2}
  names = {}
  for split in counts:
    source = builder.as_data_source(split=split)
    names[split] = {example['name'].decode() for example in (source[index] for index in range(len(source)))}
    example = source[0]
    assert set(example) == {'clean', 'degraded', 'name', 'task'} and example['task'] == b'low_light'
    file = ('test' if split == 'test' else 'train', example['name'].decode().removeprefix('uhd_ll/'))
    for key, half in (('clean', 'gt'), ('degraded', 'input')):
      np.testing.assert_array_equal(example[key], image_files.read_rgb(folder / file[0] / half / file[1]))
  assert names['train'] | names['val'] == {f'uhd_ll/{number:04d}.png' for number in range(4)}
  program = (
    'import sys, tensorflow_datasets as tfds; '
    'source = tfds.builder_from_directory(sys.argv[1]).as_data_source(split="test"); '
    'print(len(source), source[1]["clean"].shape, "tensorflow" in sys.modules)'
  )
  done = subprocess.run(
    [sys.executable, '-c', program, str(builder.data_path)], capture_output=True, text=True, check=True, cwd=ROOT
  )
  assert done.stdout.split('\n')[0] == '2 (40, 50, 3) False'


def test_clean_images_alone(tmp_path, published):
  builder = prepared('uhd_noise', published(tmp_path / 'set', 'uhd_noise', train=2, test=1), tmp_path / 'out')
  assert set(builder.as_data_source(split='val')[0]) == {'clean', 'name', 'task'}


def test_there_is_a_builder_for_each_set():
  assert set(builders.BUILDERS) == set(datasets.DATASETS)
  for name, builder in builders.BUILDERS.items():
    assert getattr(builders, builder.__name__) is builder and builder.name == name
    assert builder.MANUAL_DOWNLOAD_INSTRUCTIONS == datasets.find(name).instructions


def test_a_missing_folder_gives_the_instructions(tmp_path):
  with pytest.raises(AssertionError, match='UHD-Snow is downloaded by hand'):
    prepared('uhd_snow', tmp_path / 'none', tmp_path / 'out')
  (tmp_path / 'here' / 'gt').mkdir(parents=True)
  with pytest.raises(FileNotFoundError, match='for the split train, it has gt. UHD-Snow is downloaded by hand'):
    prepared('uhd_snow', tmp_path / 'here', tmp_path / 'out')


def test_broken_pairs_are_not_prepared(tmp_path, published):
  folder = published(tmp_path / 'set', 'uhd_ll')
  (folder / 'train' / 'gt' / '0001.png').unlink()
  with pytest.raises(ValueError, match='0001.png has no clean counterpart'):
    prepared('uhd_ll', folder, tmp_path / 'out')


def test_data_sets_are_read_without_tensorflow():
  program = (
    'import sys, lh_jax.data.sources, lh_jax.data.crops, lh_jax.data.check, lh_jax.data.prepare; '
    'print([name for name in ("tensorflow", "tensorflow_datasets", "jax", "grain") if name in sys.modules])'
  )
  done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True, cwd=ROOT)
  assert done.stdout.strip() == '[]'
