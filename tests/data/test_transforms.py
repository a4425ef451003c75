"""Crops and turns act on all arrays of a sample alike, and reach every place and turn."""

import numpy as np
import pytest

from lh_jax.data import transforms


def _pair(height: int, width: int) -> dict[str, np.ndarray]:
  clean = np.arange(height * width * 3).reshape(height, width, 3)
  return {'clean': clean, 'degraded': clean + 1000}


def test_crop_is_aligned_and_a_function_of_the_generator():
  arrays = _pair(9, 13)
  first, again = (transforms.random_crop(np.random.default_rng(4), arrays, size=5) for _ in range(2))
  assert first['clean'].shape == (5, 5, 3)
  np.testing.assert_array_equal(first['degraded'] - first['clean'], 1000)
  np.testing.assert_array_equal(first['clean'], again['clean'])


def test_crop_reaches_every_place():
  rng = np.random.default_rng(0)
  corners = {int(transforms.random_crop(rng, _pair(5, 6), size=4)['clean'][0, 0, 0]) // 3 for _ in range(200)}
  assert corners == {0, 1, 2, 6, 7, 8}
  np.testing.assert_array_equal(transforms.random_crop(rng, _pair(4, 4), size=4)['clean'], _pair(4, 4)['clean'])


def test_dihedral_reaches_the_eight_turns_and_is_aligned():
  rng = np.random.default_rng(0)
  seen = set()
  for _ in range(200):
    turned = transforms.random_dihedral(rng, _pair(3, 3))
    np.testing.assert_array_equal(turned['degraded'] - turned['clean'], 1000)
    seen.add(turned['clean'].tobytes())
  clean = _pair(3, 3)['clean']
  turns = [np.rot90(image, k) for k in range(4) for image in (clean, clean[:, ::-1])]
  assert seen == {np.ascontiguousarray(turn).tobytes() for turn in turns}


def test_errors():
  rng = np.random.default_rng(0)
  with pytest.raises(ValueError, match='9x13 pixels is smaller than the crop of 10; lower the crop_size of the stage'):
    transforms.random_crop(rng, _pair(9, 13), size=10)
  uneven = {'clean': np.zeros((4, 5, 3)), 'degraded': np.zeros((5, 4, 3))}
  message = r"must have one height and width, got \{'clean': \(4, 5\), 'degraded'"
  with pytest.raises(ValueError, match=message):
    transforms.random_crop(rng, uneven, size=2)
  with pytest.raises(ValueError, match=message):
    transforms.random_dihedral(rng, uneven)
