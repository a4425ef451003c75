"""Pictures for pages: images made small enough to look at, as JPEG bytes.

Contract: images are (height, width, 3) uint8. Enlarging never happens, and colour is stored at full resolution (4:4:4),
because its errors are what people look for.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

QUALITY = 88


def shrunk(image: np.ndarray, width: int) -> np.ndarray:
  """Returns the image with at most `width` columns, its shape kept; averaged over what each pixel covers."""
  rows, columns, _ = image.shape
  if columns <= width:
    return image
  size = (width, max(1, round(rows * width / columns)))
  return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def window(image: np.ndarray, centre: tuple[int, int], side: int) -> np.ndarray:
  """Returns the square of at most `side` pixels around `centre` (row, column), moved inward at the borders."""
  rows, columns = (
    slice(first, first + side)
    for first in (max(0, min(at - side // 2, length - side)) for at, length in zip(centre, image.shape[:2]))
  )
  return image[rows, columns]


def worst_place(image: np.ndarray, reference: np.ndarray, side: int) -> tuple[int, int]:
  """Returns the middle (row, column) of the square of `side` pixels in which two images differ most.

  The squares of a grid, whose last ones reach to the border, are compared by their squared error.
  """

  def error(corner: tuple[int, int]) -> int:
    square = tuple(slice(at, at + side) for at in corner)
    return int(np.square(image[square].astype(np.int32) - reference[square]).sum())

  tops, lefts = ([*range(0, length - side, side), max(length - side, 0)] for length in image.shape[:2])
  top, left = max(((top, left) for top in tops for left in lefts), key=error)
  return top + side // 2, left + side // 2


def jpeg(image: np.ndarray, *, quality: int = QUALITY) -> bytes:
  """Returns the image as a JPEG file."""
  stream = io.BytesIO()
  Image.fromarray(image).save(stream, 'JPEG', quality=quality, subsampling=0)
  return stream.getvalue()


def data_uri(encoded: bytes) -> str:
  """Returns the address that holds a JPEG file itself, for a page without other files."""
  return 'data:image/jpeg;base64,' + base64.b64encode(encoded).decode('ascii')
