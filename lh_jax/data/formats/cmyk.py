"""CMYK to RGB, with the embedded profile where it serves."""

from __future__ import annotations

import imagecodecs
import numpy as np


def to_rgb(pixels: np.ndarray, icc: bytes | None) -> tuple[np.ndarray, str]:
  """Converts CMYK pixels to RGB.

  With a profile: to sRGB, relative colorimetric with black point compensation, as image editors do by default. Without
  a usable one: (1 - ink) (1 - black), as Pillow does.

  Args:
    pixels: (height, width, 4) uint8 or uint16, 0 for no ink.
    icc: the embedded profile.

  Returns:
    (height, width, 3) of the same type, and a note on what was done.
  """
  reason = 'without a profile'
  if icc is not None:
    try:
      return _with_profile(pixels, icc), 'CMYK converted to sRGB with its embedded profile, which is not kept'
    except (ValueError, RuntimeError) as error:  # imagecodecs' errors are RuntimeErrors
      reason = f'without its embedded profile, which cannot be used: {error}'
  top = np.uint32(np.iinfo(pixels.dtype).max)
  left = top - pixels  # what each ink leaves
  return ((left[:, :, :3] * left[:, :, 3:] + top // 2) // top).astype(pixels.dtype), f'CMYK converted to RGB {reason}'


def _with_profile(pixels: np.ndarray, icc: bytes) -> np.ndarray:
  if icc[16:20] != b'CMYK':
    raise ValueError(f'it is not a CMYK profile but {icc[16:20]!r}')
  return imagecodecs.cms_transform(
    np.ascontiguousarray(pixels),
    icc,
    imagecodecs.cms_profile('srgb'),
    colorspace='cmyk',
    outcolorspace='rgb',
    intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
    flags=imagecodecs.CMS.FLAGS.BLACKPOINTCOMPENSATION,
  )
