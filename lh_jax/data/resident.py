"""A data set as one array of pixels, to lie on the devices: training then sends them places instead of crops.

Contract: `pack` gives 'pixels' uint8 (N, 3), the images one after the other, row by row; 'starts' int32, where each
begins; and 'widths' int32. So pixel (y, x) of image i is pixels[starts[i] + y * widths[i] + x].
"""

from __future__ import annotations

import numpy as np

from lh_jax.data.items import Source


def packed_bytes(source: Source) -> int:
  """Returns how many bytes the pixels of a data set take."""
  return sum(3 * item.height * item.width for item in source.items)


def pack(source: Source) -> dict[str, np.ndarray]:
  """Decodes a data set of clean images into the arrays of the module's docstring.

  Args:
    source: whose images have no degraded twins.

  Returns:
    {'pixels', 'starts', 'widths'}.

  Raises:
    ValueError: an image cannot be decoded, or there are too many pixels for 32-bit indices.
  """
  areas = [item.height * item.width for item in source.items]
  total = sum(areas)
  if total > np.iinfo(np.int32).max:
    raise ValueError(f'{total} pixels are too many for one array; set data.device_gib=0')
  starts = np.concatenate([[0], np.cumsum(areas)[:-1]]).astype(np.int32)
  pixels = np.empty((total, 3), np.uint8)
  for index, (start, area) in enumerate(zip(starts, areas)):
    pixels[start : start + area] = source[index]['clean'].reshape(-1, 3)
  return {'pixels': pixels, 'starts': starts, 'widths': np.array([item.width for item in source.items], np.int32)}
