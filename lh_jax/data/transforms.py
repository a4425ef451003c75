"""Augmentation of aligned images: the same crop and the same turn for every array of a sample.

Contract: a sample is a dict of name -> (height, width, channels) arrays with equal height and width. Randomness comes
from the numpy Generator given, so the result is a function of its seed. Nothing is resampled: the eight turns of the
square are exact, and a crop keeps the photograph's own pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def _common_size(arrays: Mapping[str, np.ndarray]) -> tuple[int, int]:
  sizes = {name: array.shape[:2] for name, array in arrays.items()}
  if len(set(sizes.values())) != 1:
    raise ValueError(f'arrays of one sample must have one height and width, got {sizes}')
  return next(iter(sizes.values()))


def draw_corner(rng: np.random.Generator, height: int, width: int, *, size: int) -> tuple[int, int]:
  """Returns the top left pixel of a random square in an image of at least that size; every place is equally likely."""
  return int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))


def draw_turn(rng: np.random.Generator) -> int:
  """Returns one of the eight symmetries of the square: twice the quarter turns, plus one where mirrored after them."""
  return int(rng.integers(8))


def random_crop(rng: np.random.Generator, arrays: Mapping[str, np.ndarray], *, size: int) -> dict[str, np.ndarray]:
  """Cuts one square at a random place, the same in every array.

  Args:
    rng: the source of the place; every place is equally likely.
    arrays: name -> (height, width, channels), equal heights and widths.
    size: side of the square in pixels.

  Returns:
    name -> (size, size, channels), views of the inputs.

  Raises:
    ValueError: if the arrays differ in size or are smaller than the crop.
  """
  height, width = _common_size(arrays)
  if min(height, width) < size:
    raise ValueError(
      f'image of {height}x{width} pixels is smaller than the crop of {size}; lower the crop_size of the stage'
    )
  top, left = draw_corner(rng, height, width, size=size)
  return {name: array[top : top + size, left : left + size] for name, array in arrays.items()}


def random_dihedral(rng: np.random.Generator, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Applies one of the eight symmetries of the square (quarter turns and mirror images), equally likely.

  Args:
    rng: the source of the choice.
    arrays: name -> (height, width, channels), equal heights and widths.

  Returns:
    name -> the turned array, a view; height and width are swapped by odd quarter turns.

  Raises:
    ValueError: if the arrays differ in size.
  """
  _common_size(arrays)
  quarter_turns, mirrored = divmod(draw_turn(rng), 2)
  turned = {name: np.rot90(array, quarter_turns) for name, array in arrays.items()}
  return {name: array[:, ::-1] for name, array in turned.items()} if mirrored else turned
