"""Windows that cover an image, for networks whose outputs depend on a bounded neighbourhood (the halo).

Contract: plain integers, no arrays. Lengths are counted in cells of the latent; a cell is the VAE's factor of pixels
wide. All windows of one image have one shape, so that one compiled program serves them: at the border a window is
shifted inward, never shrunk, and only what no cut can have touched is kept of it. A window ends where the image ends,
so the network pads there exactly as it pads the whole image.

Windows can begin on a grid (`Geometry.grid`): a network that computes in blocks, or halves the resolution, then does
the same arithmetic on a cell in whichever window it lies, to the last bit.
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
    grid: windows begin at multiples of so many cells.
  """

  factor: int
  channels: int
  encoder_halo: int
  decoder_halo: int
  grid: int

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


def spans(length: int, *, window: int, halo: int, grid: int = 1) -> list[Span]:
  """Covers `length` cells with windows of one size; what is kept of them joins without gap or overlap.

  Args:
    length: cells of the axis, at least 1.
    window: cells of a window, halo included; one that is longer than the axis covers it whole.
    halo: cells beside a cell on which its result may depend.
    grid: windows begin at multiples of so many cells; see `on_grid`.

  Raises:
    ValueError: the window is all halo, or its last place is not on the grid.
  """
  if window >= length:
    return [Span(0, length, 0, length)]
  if window < 2 * halo + grid or (length - window) % grid:
    raise ValueError(
      f'a window of {window} cells does not fit {length} cells: it must be larger than two halos of {halo} and end '
      f'with them on a grid of {grid}'
    )
  found, done = [], 0
  while done < length:
    start = min(max(done - halo, 0) // grid * grid, length - window)
    stop = start + window
    keep_stop = length if stop == length else stop - halo
    found.append(Span(start, stop, done, keep_stop))
    done = keep_stop
  return found


def on_grid(length: int, window: int, grid: int) -> int:
  """Returns the smallest size from `window` on whose last place along `length` cells lies on the grid."""
  return min(length, window + (length - window) % grid)


def window_for(lengths: tuple[int, int], geometry: Geometry, *, core: int) -> tuple[int, int]:
  """Returns the window (rows, columns) that keeps at least `core` x `core` cells, or the whole of a shorter axis."""
  grid = geometry.grid
  return tuple(on_grid(length, max(core, grid) + 2 * geometry.halo, grid) for length in lengths)


def cheapest_window(lengths: tuple[int, int], geometry: Geometry, *, max_cells: int, step: int) -> tuple[int, int]:
  """Returns the window (rows, columns) of at most `max_cells` cells that covers an image with the least computation.

  Args:
    lengths: cells (rows, columns) of the image.
    max_cells: cells that fit into memory; the smallest window is returned where none fits.
    geometry: of the VAE.
    step: what a window keeps is rounded up to a multiple of this, so that images of similar size share a program.
  """

  def count(length: int, window: int) -> int:
    return len(spans(length, window=window, halo=geometry.halo, grid=geometry.grid))

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


def halved(lengths: tuple[int, int], window: tuple[int, int], geometry: Geometry) -> tuple[int, int] | None:
  """Returns the window with the longer side of what it keeps about halved, or None where that makes nothing smaller."""
  cores = [side - 2 * geometry.halo for side in window]
  longer = cores.index(max(cores))
  core = max(cores[longer] // 2 // geometry.grid, 1) * geometry.grid
  smaller = on_grid(lengths[longer], core + 2 * geometry.halo, geometry.grid)
  if smaller >= window[longer]:
    return None
  return tuple(smaller if axis == longer else side for axis, side in enumerate(window))


def _sizes(length: int, geometry: Geometry, *, step: int) -> list[int]:
  """The window sizes worth a try along an axis: one for each number of windows."""
  sizes = {length}
  for count in range(2, length + 1):
    core = -(-(length - 2 * geometry.halo) // count)
    core = max(-(-core // step) * step, step)
    sizes.add(on_grid(length, core + 2 * geometry.halo, geometry.grid))
    if core == step:
      break
  return sorted(sizes)
