"""What an image file says before its pixels are decoded."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
  """The header of one image file.

  Attributes:
    height: rows, as stored (orientation not applied).
    width: columns, as stored.
    decode: reads the pixels, (height, width, channels) uint8 or uint16: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and
      alpha; with `cmyk` 4 or, with alpha, 5. Alpha is straight. The stream must still be open.
    cmyk: whether the colours are CMYK, 0 for no ink.
    icc: the embedded colour profile.
    exif: the EXIF block as found, see `exif`.
    dpi: dots per inch (x, y) outside the EXIF block.
    notes: what the caller of `decode` should be told.
  """

  height: int
  width: int
  decode: Callable[[], np.ndarray]
  cmyk: bool = False
  icc: bytes | None = None
  exif: bytes | None = None
  dpi: tuple[float, float] | None = None
  notes: tuple[str, ...] = ()
