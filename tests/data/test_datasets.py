"""The facts of the published data sets: counts as printed, layouts in words, instructions with links."""

import re

import pytest

from lh_jax.data import datasets
from lh_jax.ops import degradations

# Supplement, Table 1.
PAPER = {
  'uhd_snow': (2000, 200),
  'uhd_blur': (1964, 300),
  'uhd_rain': (2000, 500),
  'uhd_ll': (2000, 115),
  'uhd_haze': (2290, 231),
  'uhd_noise': (2000, 500),
}


@pytest.mark.parametrize('name', PAPER)
def test_counts_of_the_paper(name):
  assert [(c.train, c.test) for c in datasets.find(name).counts if 'the paper' in c.by] == [PAPER[name]]


def test_publishers_disagree_with_the_paper():
  counts = {name: [(c.train, c.test) for c in datasets.find(name).counts] for name in datasets.DATASETS}
  assert (2000, 150) in counts['uhd_ll'] and (3000, 200) in counts['uhd_rain'] and (3000, 200) in counts['uhd_snow']
  assert counts['uhd_moire'] == [(4500, 500)] and counts['gends'] == []


@pytest.mark.parametrize('name', datasets.DATASETS)
def test_instructions_tell_how_to_get_it(name):
  dataset = datasets.find(name)
  assert dataset.name == name and re.fullmatch('[a-z_]+', name)
  assert re.search(r'https://\S+', dataset.instructions) and 'Licence: ' in dataset.instructions
  assert f'lh_jax.data check FOLDER --dataset {name}' in dataset.instructions
  for folder in (*dataset.train, *dataset.test, *dataset.degraded, *dataset.task_folders):
    assert folder in dataset.instructions


def test_layouts_in_words():
  assert datasets.find('uhd_blur').layout == (
    'train|training_set and test|testing_set, each with folders gt|gt_new|gt300 and input|input_new|input300, '
    'files of one pair under one name'
  )
  assert 'NAME_gt.* and NAME_moire.*' in datasets.find('uhd_moire').layout
  assert 'the clean images themselves' in datasets.find('uhd_noise').layout
  assert 'a folder for each degradation (haze, rain' in datasets.find('gends').layout


def test_tasks_are_ours():
  """The levels of noise are one task of the set; raindrops are not synthesised."""
  known = {task.rstrip('0123456789') for task in degradations.DEGRADATIONS}
  tasks = {dataset.task for dataset in datasets.DATASETS.values()} - {None, 'moire'}
  tasks |= set(datasets.find('gends').task_folders.values())
  assert tasks - known == {'raindrop'}


def test_unknown_name():
  with pytest.raises(ValueError, match="unknown data set 'uhd'; known: uhd_ll, uhd_blur, uhd_haze"):
    datasets.find('uhd')
