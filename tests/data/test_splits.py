"""The validation split: fixed for good, disjoint, and independent of what else is there."""

import pytest

from lh_jax.data import splits

STEMS = [f'{index:04d}' for index in range(2000)]
GOLDEN = ['0083', '0092', '0147', '0202', '0241', '0270']


def test_golden():
  """A change here would mix training and validation images of runs made before and after it."""
  assert sorted(splits.validation('uhd_ll', STEMS))[:6] == GOLDEN
  assert len(splits.validation('uhd_ll', STEMS)) == 36


def test_splits_are_disjoint_and_whole():
  train, val, both = (splits.select('uhd_haze', split, STEMS) for split in ('train', 'val', 'train+val'))
  assert not train & val and train | val == both == set(STEMS)
  assert 0.01 < len(val) / len(STEMS) < 0.03
  assert splits.select('uhd_haze', 'test', STEMS) == set(STEMS)
  assert {splits.published(split) for split in ('train', 'val', 'train+val')} == {'train'}
  assert splits.published('test') == 'test'


def test_an_image_stays_in_its_split_when_others_are_missing():
  val = splits.validation('uhd_ll', STEMS)
  half = STEMS[1000:]
  assert splits.validation('uhd_ll', half) == val & set(half)
  assert splits.validation('uhd_ll', STEMS[::-1]) == val
  assert splits.validation('uhd_haze', STEMS) != val


def test_small_sets_hold_back_one():
  few = [stem for stem in STEMS[:50] if stem not in splits.validation('uhd_ll', STEMS)]
  held = splits.validation('uhd_ll', few)
  assert len(held) == 1 and splits.validation('uhd_ll', few[::-1]) == held
  with pytest.raises(ValueError, match='has 1 training image.*too few to set one aside .* use the split train.val'):
    splits.select('uhd_ll', 'train', ['0001'])
  assert splits.select('uhd_ll', 'train+val', ['0001']) == {'0001'}


def test_unknown_split():
  with pytest.raises(ValueError, match="unknown split 'dev' of a published data set; known: train, val, train.val, te"):
    splits.select('uhd_ll', 'dev', STEMS)
