"""One image's way through the programs, window by window.

The image, its latent and its result are host arrays; a window is on the device only while it is computed, and the next
one is already being computed while a result is fetched. A window whose result is not finite is computed again in
float32; where memory runs out, the tile is halved and the stage begins again. Both are noted and logged.
"""

from __future__ import annotations

import logging
from typing import Any, Callable

import numpy as np

from lh_jax import memory
from lh_jax import parallel
from lh_jax import planning
from lh_jax import programs as programs_lib
from lh_jax.ops import tiles

log = logging.getLogger('lh_jax')

# Share of the multiply-adds, for progress.
WORK = {'encode': 0.36, 'restore': 0.06, 'decode': 0.58}


class Run:
  """Encodes, restores and decodes one image.

  Attributes:
    window: (rows, columns) in cells that are computed at once.
    notes: what a user should know about this run.
  """

  def __init__(
    self,
    image: np.ndarray,
    programs: programs_lib.Programs,
    in_float32: Callable[[], programs_lib.Programs],
    *,
    window: tuple[int, int],
  ):
    """Prepares a run.

    Args:
      image: (H, W, 3), uint8, uint16 or float32 in [0, 1].
      programs: the model.
      in_float32: makes the same model with float32 activations, when a window needs it.
      window: from `planning.choose_window`.
    """
    self._image, self._programs, self._in_float32 = image, programs, in_float32
    preset = programs.networks.vae.preset
    self._factor, self._channels = preset.factor, preset.latent_channels
    self._halos = {'encode': preset.encoder_halo, 'decode': preset.decoder_halo}
    self._smallest_halo = planning.halo(preset)
    self._cells = cells_of(image.shape, preset.factor)
    self.window = window
    self.notes: list[str] = []
    self._progress, self._done = None, 0.0

  def watch(self, progress: Callable[[float], None] | None) -> None:
    """Calls progress(share done, 0 to 1) from now on, starting at 0."""
    self._progress, self._done = progress, 0.0

  def encode(self, scale: float) -> np.ndarray:
    """Returns the latent (1, h, w, C_z) by the encoder phi* + scale dphi."""
    latent = np.empty((1, *self._cells, self._channels), np.float32)

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
      f = self._factor
      part = canvas[f * rows.keep_start : f * rows.keep_stop, f * columns.keep_start : f * columns.keep_stop]
      kept = result[0, _kept_of(rows, f), _kept_of(columns, f)]
      part[...] = kept[: part.shape[0], : part.shape[1]]

    self._every_window('decode', scale, take, put)
    return canvas

  def _pixels(self, rows: tiles.Span, columns: tiles.Span) -> np.ndarray:
    """A window of the image, continued symmetrically to whole cells, which works for any image down to one pixel."""
    f = self._factor
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
        self._halve(error)

  def _try_every_window(self, stage: str, scale: float, take: Callable[..., Any], put: Callable[..., None]) -> None:
    rows, columns = (
      tiles.spans(length, window=side, halo=self._halos[stage]) for length, side in zip(self._cells, self.window)
    )
    share = 1.0 / (len(rows) * len(columns))
    begun = self._done
    pending = None
    try:
      for row in rows:
        for column in columns:
          started = self._start(stage, (np.float32(scale),), take(row, column), self._programs)
          if pending is not None:
            put(self._finish(*pending[0]), *pending[1])
            self._advance(stage, share)
          pending = started, (row, column)
      put(self._finish(*pending[0]), *pending[1])
      self._advance(stage, share)
    except BaseException:
      self._done = begun
      raise

  def _start(self, stage: str, scale: tuple, part: np.ndarray, programs: programs_lib.Programs) -> tuple:
    """Begins to compute a window; returns what `_finish` needs."""
    pixels = self._image.dtype
    preset_factor = self._factor if stage == 'encode' else 1
    program = programs.get(stage, part.shape[1] // preset_factor, part.shape[2] // preset_factor, pixels)
    results = program.run(programs.params, *scale, parallel.put_rows(part, programs.mesh))
    return results, stage, scale, part, programs

  def _finish(self, results: tuple, stage: str, scale: tuple, part: np.ndarray, programs: Any) -> np.ndarray:
    """Fetches a window's result, computing it again where it is not finite."""
    result, finite = results
    if bool(finite):
      return np.asarray(result)
    if programs.networks.vae.dtype == np.float32:
      raise FloatingPointError('The model gave non-finite values in float32: its weights are damaged.')
    self.note(f'{stage}: non-finite values in bfloat16, computed again in float32')
    return self._compute(stage, scale, part, self._in_float32())

  def _compute(self, stage: str, scale: tuple, part: np.ndarray, programs: programs_lib.Programs) -> np.ndarray:
    return self._finish(*self._start(stage, scale, part, programs))

  def _halve(self, error: Exception) -> None:
    smaller = tiles.halved(self.window, halo=self._smallest_halo)
    if smaller is None:
      raise MemoryError('The smallest tile does not fit into memory: free some, or use another device.') from error
    self.window = smaller
    height, width = (side * self._factor for side in smaller)
    self.note(f'memory ran out; going on with windows of {width}x{height} pixels')

  def note(self, text: str) -> None:
    """Keeps and logs, once, what a user should know."""
    if text not in self.notes:
      self.notes.append(text)
      log.warning('%s.', text[0].upper() + text[1:])

  def _advance(self, stage: str, share: float) -> None:
    self._done += WORK[stage] * share
    if self._progress is not None:
      self._progress(min(self._done, 1.0))


def cells_of(shape: tuple[int, ...], factor: int) -> tuple[int, int]:
  """Returns the rows and columns of the latent of an image (H, W, ...)."""
  return -(-shape[0] // factor), -(-shape[1] // factor)


def _kept(span: tiles.Span) -> slice:
  return slice(span.keep_start, span.keep_stop)


def _kept_of(span: tiles.Span, factor: int = 1) -> slice:
  return slice(factor * (span.keep_start - span.start), factor * (span.keep_stop - span.start))
