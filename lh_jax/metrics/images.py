"""What every metric asks of the images that it is given: the 8-bit pixels that are written to a file."""

from __future__ import annotations

import numpy as np


def check(metric: str, image: np.ndarray) -> None:
  """Refuses what is no 8-bit colour image.

  Args:
    metric: name for the message.
    image: the image.

  Raises:
    ValueError: it is not uint8 (H, W, 3).
  """
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
    raise ValueError(f'{metric} got an image of {image.dtype} {image.shape}; it must be uint8 (H, W, 3)')


def check_pair(metric: str, a: np.ndarray, b: np.ndarray) -> None:
  """Refuses what is no pair of 8-bit colour images of one size.

  Args:
    metric: name for the message.
    a: one image.
    b: the other.

  Raises:
    ValueError: the images are not both uint8 (H, W, 3), or their sizes differ.
  """
  for image in (a, b):
    check(metric, image)
  if a.shape != b.shape:
    raise ValueError(f'{metric} got a pair of sizes {a.shape[:2]} and {b.shape[:2]}; they must be equal')
