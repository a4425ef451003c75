"""Labelled grids of images, for people to look at."""

from __future__ import annotations

import dataclasses
from typing import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP = 4
_TEXT = 18


@dataclasses.dataclass(frozen=True)
class Row:
  """One row of a grid: a title, (H, W, 3) uint8 images of one size, and a line to write below them."""

  title: str
  images: tuple[np.ndarray, ...]
  note: str = ''


def grid(rows: Sequence[Row], *, titles: Sequence[str]) -> np.ndarray:
  """Puts rows of images below each other, at their own size.

  Args:
    rows: the rows; each has as many images as there are titles.
    titles: titles of the columns.

  Returns:
    (H, W, 3) uint8.

  Raises:
    ValueError: no rows, or a row with another number of images than titles.
  """
  if not rows or any(len(row.images) != len(titles) for row in rows):
    raise ValueError(f'A grid needs rows of {len(titles)} images each, got {[len(row.images) for row in rows]}.')
  columns = len(titles)
  cell_width = max(image.shape[1] for row in rows for image in row.images) + _GAP
  heights = [max(image.shape[0] for image in row.images) + _TEXT * (2 if row.note else 1) + _GAP for row in rows]
  sheet = Image.new('RGB', (columns * cell_width + _GAP, sum(heights) + _GAP), 'white')
  draw = ImageDraw.Draw(sheet)
  font = ImageFont.load_default(size=14)
  top = _GAP
  for row, height in zip(rows, heights):
    for column, (title, image) in enumerate(zip(titles, row.images)):
      left = _GAP + column * cell_width
      draw.text((left, top), f'{row.title}: {title}', fill='black', font=font)
      sheet.paste(Image.fromarray(image), (left, top + _TEXT))
    draw.text((_GAP, top + height - _TEXT - _GAP), row.note, fill='black', font=font)
    top += height
  return np.asarray(sheet)
