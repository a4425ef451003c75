"""One image's way through the programs, window by window.

The image, its latent and its result are host arrays; a window is on the device only while it is computed, two
at once. A window whose result is not finite is computed again in float32; where memory runs out, the tile is halved and
the stage begins again. Both are noted and logged.
"""

from __future__ import annotations

import collections
from concurrent import futures
import dataclasses
import functools
import logging
import threading
from typing import Any, Callable, NamedTuple, Protocol, Sequence

import numpy as np

from lh_jax import memory
from lh_jax import parallel
from lh_jax.ops import tiles

log = logging.getLogger('lh_jax')

# Windows that are computed at once: the parts of one program that keep a single core busy, or none but the memory bus,
# meet other parts of the other.
IN_FLIGHT = 2
# Share of the multiply-adds, for progress.
WORK = {'encode': 0.36, 'restore': 0.06, 'decode': 0.58}


class Program(NamedTuple):
  """A compiled stage.

  Attributes:
    run: (params, scale, pixels), (params, latent) or (params, scale, latent) -> (result, whether it is finite), for the
      stages 'encode', 'restore' and 'decode'.
    bytes: memory of one device that a run takes, arguments and results included, as the compiler counts it.
  """

  run: Callable[..., Any]
  bytes: int


class Programs(Protocol):
  """What a run needs of a model: `programs.Programs`, or programs without the model behind them.

  Attributes:
    geometry: of its VAE.
    params: the first argument of every program.
    mesh: the devices.
    exact: whether activations are float32.
  """

  geometry: tiles.Geometry
  params: Any
  mesh: parallel.Mesh
  exact: bool

  def get(self, stage: str, rows: int, columns: int, dtype: Any) -> Program:
    """Returns the program of a stage for windows of rows x columns cells and pixels of `dtype`."""


@dataclasses.dataclass(frozen=True)
class Restored:
  """One result.

  Attributes:
    image: restored image, shape and dtype of the input.
    window: pixels (height, width) that were computed at once, halos included; None where that was the whole image.
    notes: what a user should know: a smaller tile after memory ran out, windows redone in float32.
  """

  image: np.ndarray
  window: tuple[int, int] | None
  notes: tuple[str, ...]


def check_image(image: np.ndarray) -> None:
  """Checks that an array is an image that can be restored.

  Raises:
    ValueError: it is not (H, W, 3), or neither uint8, uint16 nor float32 in [0, 1].
  """
  if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
    raise ValueError(f'An image must have shape (H, W, 3), got {image.shape}.')
  if image.dtype not in (np.uint8, np.uint16, np.float32):
    raise ValueError(f'An image must be uint8, uint16 or float32, got {image.dtype}.')
  if image.dtype == np.float32 and not (image.min() >= 0.0 and image.max() <= 1.0):
    raise ValueError(f'A float32 image must lie in [0, 1], got values from {image.min()} to {image.max()}.')


def check_alpha(alpha: float) -> None:
  """Checks a fidelity.

  Raises:
    ValueError: it is outside [0, 1].
  """
  if not 0.0 <= alpha <= 1.0:
    raise ValueError(f'alpha must lie in [0, 1], got {alpha}.')


class Run:
  """Encodes, restores and decodes one image.

  Attributes:
    window: (rows, columns) in cells that are computed at once.
    notes: what a user should know about this run.
  """

  def __init__(
    self,
    image: np.ndarray,
    programs: Programs,
    in_float32: Callable[[], Programs],
    *,
    window: tuple[int, int],
    smaller: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
  ):
    """Prepares a run.

    Args:
      image: (H, W, 3), uint8, uint16 or float32 in [0, 1].
      programs: the model.
      in_float32: makes the same model with float32 activations, when a window needs it.
      window: from `planning.choose_window`.
      smaller: returns the window to go on with where one does not fit, or raises MemoryError; None halves.
    """
    self._image, self._programs, self._in_float32 = image, programs, in_float32
    self._geometry = programs.geometry
    self._cells = programs.geometry.cells(image.shape)
    self.window = window
    self.notes: list[str] = []
    self._smaller = smaller or functools.partial(_halved, geometry=programs.geometry)
    self._together = in_flight(programs.mesh)
    self._lock = threading.Lock()
    self.watch(None)

  def watch(self, progress: Callable[[float], None] | None, stages: Sequence[str] = tuple(WORK)) -> None:
    """Calls progress(share done, 0 to 1) from now on, counting the work of these stages."""
    self._progress, self._done, self._work = progress, 0.0, sum(WORK[stage] for stage in stages)

  def encode(self, scale: float) -> np.ndarray:
    """Returns the latent (1, h, w, C_z) by the encoder phi* + scale dphi."""
    latent = np.empty((1, *self._cells, self._geometry.channels), np.float32)

    def put(result: np.ndarray, rows: tiles.Span, columns: tiles.Span) -> None:
      latent[:, _kept(rows), _kept(columns)] = result[:, _kept_of(rows), _kept_of(columns)]

    self._every_window('encode', scale, self._pixels, put)
    return latent

  def restore(self, latent: np.ndarray) -> np.ndarray:
    """Returns the restored latent (1, h, w, C_z).

    Raises:
      MemoryError: it does not fit, and it cannot be cut.
      FloatingPointError: as `decode`.
    """
    try:
      restored = self._compute('restore', (), latent, self._programs)
    except Exception as error:
      if not memory.is_out_of_memory(error):
        raise
      raise MemoryError(
        f'The latent of {self._cells[1]}x{self._cells[0]} cells does not fit into memory, and it is restored in one '
        'piece: restore the image in parts.'
      ) from error
    self._advance('restore', 1.0)
    return restored[:, : self._cells[0]]

  def decode(self, latent: np.ndarray, scale: float) -> np.ndarray:
    """Returns the image (H, W, 3) by the decoder psi* + scale dpsi, in the input's dtype.

    Raises:
      FloatingPointError: some of it is not finite, in float32 either.
      MemoryError: the smallest tile does not fit.
    """
    canvas = np.empty_like(self._image)

    def take(rows: tiles.Span, columns: tiles.Span) -> np.ndarray:
      return latent[:, rows.start : rows.stop, columns.start : columns.stop]

    def put(result: np.ndarray, rows: tiles.Span, columns: tiles.Span) -> None:
      f = self._geometry.factor
      part = canvas[f * rows.keep_start : f * rows.keep_stop, f * columns.keep_start : f * columns.keep_stop]
      kept = result[0, _kept_of(rows, f), _kept_of(columns, f)]
      part[...] = kept[: part.shape[0], : part.shape[1]]

    self._every_window('decode', scale, take, put)
    return canvas

  def result(self, image: np.ndarray) -> Restored:
    """Returns what `decode` gave, with how it was done."""
    whole = self.window == self._cells
    return Restored(image, None if whole else self._window_pixels(), tuple(self.notes))

  def _pixels(self, rows: tiles.Span, columns: tiles.Span) -> np.ndarray:
    """A window of the image, continued symmetrically to whole cells, which works for any image down to one pixel."""
    f = self._geometry.factor
    part = self._image[f * rows.start : f * rows.stop, f * columns.start : f * columns.stop]
    missing = [f * (span.stop - span.start) - side for span, side in zip((rows, columns), part.shape)]
    if any(missing):
      part = np.pad(part, [(0, missing[0]), (0, missing[1]), (0, 0)], mode='symmetric')
    return part[None]

  def _every_window(self, stage: str, scale: float, take: Callable[..., Any], put: Callable[..., None]) -> None:
    while True:
      try:
        return self._try_every_window(stage, scale, take, put)
      except Exception as error:
        if not memory.is_out_of_memory(error):
          raise
        if self._together > 1 and self.window != self._cells:
          self._together = 1
          self.note('memory ran out; going on with one window at a time')
        else:
          self._shrink(error)

  def _try_every_window(self, stage: str, scale: float, take: Callable[..., Any], put: Callable[..., None]) -> None:
    geometry = self._geometry
    halo = geometry.encoder_halo if stage == 'encode' else geometry.decoder_halo
    rows, columns = (tiles.spans(length, window=side, halo=halo) for length, side in zip(self._cells, self.window))
    places = [(row, column) for row in rows for column in columns]
    begun = self._done
    waiting = collections.deque()
    pool = futures.ThreadPoolExecutor(self._together)

    def collect() -> None:
      result, place = waiting.popleft()
      put(result.result(), *place)
      self._advance(stage, 1.0 / len(places))

    try:
      for place in places:
        part = take(*place)
        waiting.append((pool.submit(self._compute, stage, (np.float32(scale),), part, self._programs), place))
        if len(waiting) > self._together:
          collect()
      while waiting:
        collect()
    except BaseException:
      self._done = begun
      raise
    finally:
      pool.shutdown(cancel_futures=True)

  def _compute(self, stage: str, scale: tuple, part: np.ndarray, programs: Programs) -> np.ndarray:
    """Returns a window's result, computed again in float32 where it is not finite."""
    factor = self._geometry.factor if stage == 'encode' else 1
    program = programs.get(stage, part.shape[1] // factor, part.shape[2] // factor, self._image.dtype)
    result, finite = program.run(programs.params, *scale, parallel.put_rows(part, programs.mesh))
    if bool(finite):
      return np.asarray(result)
    if programs.exact:
      raise FloatingPointError('The model gave non-finite values in float32: its weights are damaged.')
    self.note(f'{stage}: non-finite values in bfloat16, computed again in float32')
    return self._compute(stage, scale, part, self._in_float32())

  def _shrink(self, error: Exception) -> None:
    try:
      self.window = self._smaller(self.window)
    except MemoryError as none_left:
      raise none_left from error
    height, width = self._window_pixels()
    self.note(f'memory ran out; going on with windows of {width}x{height} pixels')

  def _window_pixels(self) -> tuple[int, int]:
    return self.window[0] * self._geometry.factor, self.window[1] * self._geometry.factor

  def note(self, text: str) -> None:
    """Keeps and logs, once, what a user should know."""
    with self._lock:
      new = text not in self.notes
      self.notes += [text] * new
    if new:
      log.warning('%s.', text[0].upper() + text[1:])

  def _advance(self, stage: str, share: float) -> None:
    self._done += WORK[stage] / self._work * share
    if self._progress is not None:
      self._progress(min(self._done, 1.0))


def in_flight(mesh: parallel.Mesh) -> int:
  """Returns how many windows are computed at once: one where devices share it, lest their collectives mix."""
  return IN_FLIGHT if mesh.size == 1 else 1


def _halved(window: tuple[int, int], *, geometry: tiles.Geometry) -> tuple[int, int]:
  smaller = tiles.halved(window, geometry)
  if smaller is None:
    raise MemoryError('The smallest tile does not fit into memory: free some, or use another device.')
  return smaller


def _kept(span: tiles.Span) -> slice:
  return slice(span.keep_start, span.keep_stop)


def _kept_of(span: tiles.Span, factor: int = 1) -> slice:
  return slice(factor * (span.keep_start - span.start), factor * (span.keep_stop - span.start))
