"""Degraded photographs that can be made again: the rule from a name to pixels, and a sheet to look at.

Contract: a photograph's name, the task and the seed fix every random number, so that one degraded image is the same
whatever else is synthesised, in any order and process. Random bits are exact everywhere (Threefry); pixels, 8 bits, may
differ by one level where another machine or version of JAX rounds otherwise. Evaluation degrades clean images by the
same rule, and `python -m lh_jax.synthesis PHOTOGRAPHS OUT` writes test sets (`synthesis.sets`); nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
import functools
import unicodedata
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from lh_jax.data import figures
from lh_jax.data import image_files
from lh_jax.ops import degradations

SHEET_SEVERITIES = (0.25, 0.5, 0.75, 1.0)
SHEET_CELL = (192, 144)  # width, height
SMALLEST = 8  # pixels a side


def random_key(name: str, task: str, seed: int = 0) -> jax.Array:
  """The key of one degraded image: the seed, and the CRC-32 of 'NAME/TASK' in UTF-8, are its 64 bits.

  Args:
    name: of the photograph, its path relative to the data set; accents count the same however they are encoded.
    task: of the degradation.
    seed: 0 to 2^32 - 1.

  Returns:
    A typed key.

  Raises:
    ValueError: the seed is out of range.
  """
  if not 0 <= seed < 2**32:
    raise ValueError(f'seed is {seed}; it must lie in 0 to 2^32 - 1')
  text = unicodedata.normalize('NFC', f'{name}/{task}').encode('utf-8', 'surrogateescape')
  return jax.random.wrap_key_data(jnp.array([seed, zlib.crc32(text)], jnp.uint32), impl='threefry2x32')


def synthesise(clean: np.ndarray, *, name: str, task: str, severity: float, seed: int = 0) -> np.ndarray:
  """Degrades one clean photograph.

  Args:
    clean: (H, W, 3) uint8, 8x8 pixels or more.
    name: of the photograph, its path relative to the data set.
    task: one of `degradations.BENCHMARK`.
    severity: in [0, 1].
    seed: another one gives other weather on the same photographs.

  Returns:
    (H, W, 3) uint8.

  Raises:
    ValueError: an argument is out of its range, or the task is unknown.
  """
  check_settings((task,), severity)
  if clean.dtype != np.uint8 or clean.ndim != 3 or clean.shape[2] != 3 or min(clean.shape[:2]) < SMALLEST:
    raise ValueError(
      f'{name}: a photograph of {clean.dtype} and shape {clean.shape} cannot be degraded; it must be uint8, (height, '
      f'width, 3), with {SMALLEST} pixels a side or more'
    )
  image = clean.astype(np.float32) / np.float32(255)
  return image_files.to_uint8(
    np.asarray(_degrade(random_key(name, task, seed), image, np.float32(severity), task=task))
  )


@functools.partial(jax.jit, static_argnames='task')
def _degrade(key: jax.Array, image: jax.Array, severity: jax.Array, *, task: str) -> jax.Array:
  return degradations.DEGRADATIONS[task](key, image, severity)


def check_settings(tasks: Sequence[str], severity: float) -> None:
  """Checks that all tasks are known, that there is one, and that the severity lies in [0, 1].

  Raises:
    ValueError: otherwise.
  """
  unknown = [task for task in tasks if task not in degradations.BENCHMARK]
  if unknown or not tasks:
    raise ValueError(
      f'cannot synthesise {", ".join(unknown) or "no task at all"}; known tasks: {", ".join(degradations.BENCHMARK)}'
    )
  if not 0.0 <= severity <= 1.0:
    raise ValueError(f'severity is {severity}; it must lie in [0, 1]')


def crop(clean: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
  """Returns the centre of a photograph, at most (width, height) pixels of it; all of it where `size` is None."""
  if size is None:
    return clean
  (height, width), (wide, high) = clean.shape[:2], size
  top, left = max(height - high, 0) // 2, max(width - wide, 0) // 2
  return clean[top : top + high, left : left + wide]


def contact_sheet(
  clean: np.ndarray, *, name: str, tasks: Sequence[str] = degradations.BENCHMARK, seed: int = 0
) -> np.ndarray:
  """Shows every task at four severities on the centre of one photograph, at full resolution.

  Args:
    clean: (H, W, 3) uint8; all of it is degraded.
    name: see `synthesise`.
    tasks: some of `degradations.BENCHMARK`.
    seed: see `synthesise`.

  Returns:
    (height, width, 3) uint8: a row for each task, under which its strength is written.

  Raises:
    ValueError: as `synthesise`.
  """
  check_settings(tasks, 0.0)
  rows = []
  for task in tasks:
    degraded = (synthesise(clean, name=name, task=task, severity=s, seed=seed) for s in SHEET_SEVERITIES)
    images = tuple(np.ascontiguousarray(crop(image, SHEET_CELL)) for image in (clean, *degraded))
    rows.append(figures.Row(title=task, images=images, note=f'Severity 1: {degradations.STRENGTHS[task]}.'))
  return figures.grid(rows, titles=('clean', *(f'at {s:g}' for s in SHEET_SEVERITIES)))
