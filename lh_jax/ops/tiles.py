"""Windows that cover an image, for networks whose outputs depend on a bounded neighbourhood (the halo).

Contract: plain integers, no arrays. Lengths are counted in cells of the latent; a cell is the VAE's factor of pixels
wide. All windows of one image have one shape, so that one compiled program serves them: at the border a window is
shifted inward, never shrunk, and only what no cut can have touched is kept of it. A window ends where the image ends,
so the network pads there exactly as it pads the whole image.
"""

from __future__ import annotations

from typing import NamedTuple


class Geometry(NamedTuple):
  """What tiling needs to know of a VAE.

  Attributes:
    factor: pixels of a cell on a side.
    channels: of the latent.
    encoder_halo: cells beside a latent cell on whose pixels it depends.
    decoder_halo: cells beside a latent cell on which its pixels depend.
  """

  factor: int
  channels: int
  encoder_halo: int
  decoder_halo: int

  @property
  def halo(self) -> int:
    """Cells that serve both halves."""
    return max(self.encoder_halo, self.decoder_halo)

  def cells(self, shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns the rows and columns of the latent of an image (H, W, ...)."""
    return -(-shape[0] // self.factor), -(-shape[1] // self.factor)


class Span(NamedTuple):
  """One window along one axis: computed from start to stop, of which keep_start to keep_stop is kept (cells)."""

  start: int
  stop: int
  keep_start: int
  keep_stop: int


def spans(length: int, *, window: int, halo: int) -> list[Span]:
  """Covers `length` cells with windows of one size; what is kept of them joins without gap or overlap.

  Args:
    length: cells of the axis, at least 1.
    window: cells of a window, halo included; one that is longer than the axis covers it whole.
    halo: cells beside a cell on which its result may depend.

  Raises:
    ValueError: the window is all halo.
  """
  if window >= length:
    return [Span(0, length, 0, length)]
  if window <= 2 * halo:
    raise ValueError(f'a window of {window} cells keeps nothing: it must be larger than two halos of {halo}')
  found, done = [], 0
  while done < length:
    start = min(max(done - halo, 0), length - window)
    stop = start + window
    keep_stop = length if stop == length else stop - halo
    found.append(Span(start, stop, done, keep_stop))
    done = keep_stop
  return found


def window_for(lengths: tuple[int, int], geometry: Geometry, *, core: int) -> tuple[int, int]:
  """Returns the window (rows, columns) that keeps `core` x `core` cells, or the whole of a shorter axis."""
  return tuple(min(length, core + 2 * geometry.halo) for length in lengths)


def at_least(window: tuple[int, int], lengths: tuple[int, int], *, cells: int) -> tuple[int, int]:
  """Returns the window, its sides lengthened until it has so many cells or covers an image of `lengths` cells."""
  rows, columns = window
  while rows * columns < cells and (rows, columns) != lengths:
    if columns == lengths[1] or rows <= columns and rows < lengths[0]:
      rows += 1
    else:
      columns += 1
  return rows, columns


def cheapest_window(lengths: tuple[int, int], geometry: Geometry, *, max_cells: int, step: int) -> tuple[int, int]:
  """Returns the window (rows, columns) of at most `max_cells` cells that covers an image with the least computation.

  Args:
    lengths: cells (rows, columns) of the image.
    max_cells: cells that fit into memory; the smallest window is returned where none fits.
    geometry: of the VAE.
    step: what a window keeps is rounded up to a multiple of this, so that images of similar size share a program.
  """

  def count(length: int, window: int) -> int:
    return len(spans(length, window=window, halo=geometry.halo))

  def cost(window: tuple[int, int]) -> int:
    return count(lengths[0], window[0]) * count(lengths[1], window[1]) * window[0] * window[1]

  rows, columns = (_sizes(length, geometry, step=step) for length in lengths)
  fitting = []
  for height in rows:
    width = max((side for side in columns if height * side <= max_cells), default=None)
    if width is not None:
      # Of the windows that give as many columns, the narrowest.
      width = min(side for side in columns if count(lengths[1], side) == count(lengths[1], width))
      fitting.append((height, width))
  return min(fitting, key=cost) if fitting else (min(rows), min(columns))


def halved(window: tuple[int, int], geometry: Geometry) -> tuple[int, int] | None:
  """Returns the window with the longer side of what it keeps halved, or None where one cell is left."""
  cores = [side - 2 * geometry.halo for side in window]
  longer = cores.index(max(cores))
  if cores[longer] <= 1:
    return None
  smaller = cores[longer] // 2 + 2 * geometry.halo
  return tuple(smaller if axis == longer else side for axis, side in enumerate(window))


def _sizes(length: int, geometry: Geometry, *, step: int) -> list[int]:
  """The window sizes worth a try along an axis: one for each number of windows."""
  sizes = {length}
  for count in range(2, length + 1):
    core = -(-(length - 2 * geometry.halo) // count)
    core = max(-(-core // step) * step, step)
    sizes.add(min(length, core + 2 * geometry.halo))
    if core == step:
      break
  return sorted(sizes)
