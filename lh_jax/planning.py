"""Which window to run at once, known before anything runs: the whole image, what the user asks for, what memory allows.

Windows are (rows, columns) in cells of the latent. The bytes come from the compiled programs themselves
(`programs.program_bytes`); only the first guess of how large a window to compile for is arithmetic.
"""

from __future__ import annotations

import logging
import numbers
from typing import Any, NamedTuple

import numpy as np

from lh_jax import memory
from lh_jax import programs as programs_lib
from lh_jax import windows
from lh_jax.ops import tiles

log = logging.getLogger('lh_jax')

# On the CPU larger windows gain little (see experiments/bench_inference.py) and take memory from other programs.
CPU_BUDGET = 3 * 2**28
# What a window keeps is a multiple of so many cells, so that images of similar size share their programs.
STEP = 8
# For windows of fewer cells (about 300), XLA's convolution on the CPU adds up in another order, and single bits differ.
MIN_CELLS = 384
# A first guess: so many copies of the finest activation are alive at once.
COPIES = 3.25
ATTEMPTS = 6


def choose_window(
  programs: programs_lib.Programs, cells: tuple[int, int], dtype: Any, *, tile: str | int, max_memory: int | None
) -> tuple[int, int]:
  """Returns the window for an image.

  Args:
    programs: the model.
    cells: rows and columns of the image's latent.
    dtype: of the pixels.
    tile: 'auto', 'full', or pixels that a window yields on a side.
    max_memory: bytes that the programs may take on a device; None is what is free.

  Raises:
    ValueError: another `tile`, or `max_memory` beside a tile that is not 'auto'.
    MemoryError: 'auto' finds that the whole latent, or the smallest window, does not fit; or the whole image, of a VAE
      that is not local.
  """
  preset = programs.networks.vae.preset
  if tile != 'auto' and max_memory is not None:
    raise ValueError(f"max_memory chooses the tile, so it needs tile='auto'; got tile={tile!r} beside it.")
  if tile == 'full':
    return cells
  if isinstance(tile, numbers.Integral) and not isinstance(tile, bool):
    if tile < 1:
      raise ValueError(f'tile must be at least 1 pixel, got {tile}.')
    window = tiles.window_for(cells, programs.geometry, core=-(-int(tile) // preset.factor))
    return tiles.at_least(window, cells, cells=MIN_CELLS)
  if tile != 'auto':
    raise ValueError(f"Unknown tile {tile!r}; allowed: 'auto', 'full' or a number of pixels.")
  budget = _budget(programs, cells, dtype, max_memory)
  if not preset.local:
    needed = _bytes(programs, cells, dtype)
    if needed > budget.limit:
      raise MemoryError(
        f'The whole image takes {memory.in_words(needed)} and {budget.reason}, and tiles would change the result of this '
        f'VAE ({preset.global_parts}): name a --tile to accept that, or allow more with max_memory.'
      )
    return cells
  needed = programs.get('restore', *cells).bytes
  if needed > budget.limit:
    raise MemoryError(
      f'The latent of an image of this size takes {memory.in_words(needed)} and {budget.reason}: allow more with '
      'max_memory, or restore the image in parts.'
    )
  return _fitting_window(programs, cells, dtype, budget)


class _Budget(NamedTuple):
  """Bytes that windows should (`preferred`) and the latent may (`limit`) take, and why, in words."""

  preferred: int
  limit: int
  reason: str


def _budget(programs: programs_lib.Programs, cells: tuple[int, int], dtype: Any, max_memory: int | None) -> _Budget:
  if max_memory is not None:
    return _Budget(max_memory, max_memory, f'max_memory is {memory.in_words(max_memory)}')
  free = memory.available(programs.device)
  if programs.device.platform == 'cpu':
    # The host's own arrays come out of the same memory: the result, and the latent before and after.
    geometry = programs.geometry
    in_cell = 3 * geometry.factor**2 * np.dtype(dtype).itemsize + 2 * geometry.channels * 4
    free = max(free - in_cell * cells[0] * cells[1], 0)
  safe = int(memory.SAFE_SHARE * free)
  preferred = min(safe, CPU_BUDGET) if programs.device.platform == 'cpu' else safe
  return _Budget(preferred, safe, f'{memory.in_words(free)} are free')


def _fitting_window(
  programs: programs_lib.Programs, cells: tuple[int, int], dtype: Any, budget: _Budget
) -> tuple[int, int]:
  preset = programs.networks.vae.preset
  finest = preset.channels[0] * (preset.factor // preset.stem) ** 2 * np.dtype(programs.networks.vae.dtype).itemsize
  per_cell = COPIES * finest / programs.mesh.size
  if per_cell * cells[0] * cells[1] <= budget.preferred and _bytes(programs, cells, dtype) <= budget.preferred:
    return cells
  preferred = budget.preferred // windows.in_flight(programs.mesh)
  for _ in range(ATTEMPTS):
    window = tiles.cheapest_window(cells, programs.geometry, max_cells=int(preferred / per_cell), step=STEP)
    window = tiles.at_least(window, cells, cells=MIN_CELLS)
    needed = _bytes(programs, window, dtype)
    if needed <= preferred:
      log.debug('Windows of %s cells: %s each, %s.', window, memory.in_words(needed), budget.reason)
      return window
    # Memory is linear in the window, up to a constant; a little less than that says, so that this ends.
    per_cell = 1.05 * max(per_cell, needed / (window[0] * window[1]))
  window = tiles.at_least(tiles.window_for(cells, programs.geometry, core=1), cells, cells=MIN_CELLS)
  needed = windows.in_flight(programs.mesh) * _bytes(programs, window, dtype)
  if needed <= budget.limit:
    return window
  raise MemoryError(
    f'The smallest tiles take {memory.in_words(needed)} and {budget.reason}: allow more with max_memory, or free some.'
  )


def _bytes(programs: programs_lib.Programs, window: tuple[int, int], dtype: Any) -> int:
  return max(programs.get(stage, *window, dtype).bytes for stage in ('encode', 'decode'))
