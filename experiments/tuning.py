"""The best classical method for each task of the benchmark: which are tried, and choosing one on training photographs.

Contract: every candidate (`classical.Candidate`) is scored by the mean PSNR in RGB over crops of photographs that the
benchmark does not hold, degraded at the benchmark's severity, and the highest one is chosen, whatever it is worth: the
degraded image itself is no candidate. Noise has its standard deviation told. A composite is tried in the inverse order
of its parts, with few parameters each, and with the methods of one part alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent import futures
import itertools
import math
import os
import time
from typing import Any

import numpy as np

from lh_jax import synthesis
from lh_jax.data.items import Source
from lh_jax.ops import degradations
import classical

SIDE = 256  # pixels of a crop


def _grid(method: str, **values: Sequence[Any]) -> list[classical.Candidate]:
  """One step of a method with every combination of the values; none where the method cannot be tried here."""
  if method in classical.missing():
    return []
  return [((method, dict(zip(values, chosen))),) for chosen in itertools.product(*values.values())]


def _chains(*stages: Sequence[classical.Candidate]) -> list[classical.Candidate]:
  return [sum(chosen, ()) for chosen in itertools.product(*stages)]


def _noise(level: int) -> list[classical.Candidate]:
  return [
    *_grid('nl_means', sigma=(level,), strength=(0.5, 0.7, 0.9), patch=(3, 5)),
    *_grid('wavelet', sigma=(level,)),
    *_grid('total_variation', weight=[round(share * level / 255, 4) for share in (0.8, 1.2, 1.8)]),
    *_grid('dct', sigma=(level,), threshold=(2.0, 2.5, 3.0, 3.5)),
  ]


def _blur() -> list[classical.Candidate]:
  spread = {'psf': ('disk', 'gaussian'), 'size': (2.0, 3.0, 4.0, 5.0, 6.0)}
  return [
    *_grid('wiener', **spread, balance=(0.01, 0.03, 0.1, 0.3)),
    *_grid('richardson_lucy', **spread, iterations=(3, 10, 30)),
    *_grid('unsharp', radius=(2, 4), amount=(0.3, 0.6, 1.0)),
  ]


def _haze() -> list[classical.Candidate]:
  return [
    *_grid('dark_channel', patch=(3, 7, 15), omega=(0.8, 0.9, 1.0), least=(0.1, 0.3, 0.4, 0.5, 0.6)),
    *_grid('clahe', clip=(0.003, 0.01, 0.02)),
    *_grid('stretch', percent=(0.1, 1.0)),
  ]


def _low_light() -> list[classical.Candidate]:
  brighter = [
    *_grid('gain', stops=(1.75, 2.25, 2.75), power=(0.87, 0.93, 1.0)),
    *_grid('key_exposure', key=(0.06, 0.1, 0.14, 0.18)),
    *_grid('mean_gamma', target=(0.35, 0.4, 0.45)),
  ]
  alone = [
    *_grid('gamma', power=(0.4, 0.5, 0.6)),
    *_grid('clahe', clip=(0.01, 0.03)),
    *_grid('stretch', percent=(1.0,)),
  ]
  return [*brighter, *alone, *_chains(brighter, _grid('dct', sigma=(3,), threshold=(2.5,)))]


def _veiled(kept: Sequence[classical.Candidate]) -> list[classical.Candidate]:
  """Smoothing against streaks or flakes, alone and before the veil behind them is taken away, and that alone."""
  veil = [*_grid('dark_channel', patch=(15,), omega=(0.2, 0.4, 0.6)), *_grid('stretch', percent=(0.02, 0.1, 0.5))]
  return [*kept, *veil, *_chains(kept, veil)]


def _smoothing() -> list[classical.Candidate]:
  return [
    *_grid('median', size=(3, 5)),
    *_grid('opening', size=(2, 3, 5)),
    *_grid('guided', radius=(2, 4), epsilon=(1e-3, 1e-2)),
    *_grid('bilateral', color=(0.1,), space=(2.0,)),
  ]


def _moire() -> list[classical.Candidate]:
  smooth = [*_grid('median', size=(3, 5)), *_grid('gaussian', sigma=(0.7, 1.0, 1.5))]
  return [*smooth, *_chains(smooth, _grid('gain', stops=(0.1, 0.2, 0.3)))]


TASKS = {
  'low_light': _low_light,
  'haze': _haze,
  'blur': _blur,
  'rain': lambda: _veiled(_smoothing()),
  'snow': lambda: _veiled(_smoothing()),
  'noise15': lambda: _noise(15),
  'noise25': lambda: _noise(25),
  'noise50': lambda: _noise(50),
  'moire': _moire,
}
# What a part of a composite is undone by.
PARTS = {
  'low_light': lambda: [
    *_grid('gain', stops=(1.75, 2.25)),
    *_grid('key_exposure', key=(0.06, 0.1, 0.14)),
    *_grid('mean_gamma', target=(0.4,)),
  ],
  'haze': lambda: [
    *_grid('dark_channel', patch=(3, 15), omega=(0.8, 0.95), least=(0.1, 0.5)),
    *_grid('clahe', clip=(0.01,)),
  ],
  'blur': lambda: [
    *_grid('wiener', psf=('disk',), size=(2.0, 3.0), balance=(0.1, 0.3)),
    *_grid('richardson_lucy', psf=('disk',), size=(3.0,), iterations=(3,)),
    *_grid('unsharp', radius=(2,), amount=(0.3, 1.0)),
  ],
  'noise25': lambda: [
    *_grid('nl_means', sigma=(25,), strength=(0.7,)),
    *_grid('dct', sigma=(25,), threshold=(2.5, 3.0)),
    *_grid('total_variation', weight=(0.12, 0.18)),
  ],
}


def candidates(task: str) -> list[classical.Candidate]:
  """Returns what is tried for a task.

  Raises:
    ValueError: the task is unknown.
  """
  if task in TASKS:
    return TASKS[task]()
  if task not in degradations.COMPOSITES:
    raise ValueError(f'No classical method for {task!r}; known: {", ".join((*TASKS, *degradations.COMPOSITES))}.')
  parts = [PARTS[part]() for part in reversed(degradations.COMPOSITES[task])]
  return [*itertools.chain(*parts), *_chains(*parts)]


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
  """The PSNR (dB) of uint8 images in RGB; infinite for equal ones."""
  error = np.square(image.astype(np.float64) - clean).mean()
  return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def pairs(
  source: Source, task: str, *, count: int, severity: float, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields (degraded, clean) crops from the middles of up to `count` photographs, evenly taken from the source."""
  chosen = np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int)
  for item in (source[int(index)] for index in chosen):
    clean = synthesis.crop(item['clean'], (SIDE, SIDE))
    yield synthesis.synthesise(clean, name=item['name'], task=task, severity=severity, seed=seed), clean


def best(task: str, images: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
  """Returns the candidate with the highest mean PSNR.

  Args:
    task: of `candidates`.
    images: (degraded, clean) uint8 crops.

  Returns:
    'steps': [[method, parameters], ...] of the best; 'psnr_rgb' of it and 'psnr_rgb_input' of the degraded crops;
    'crops', 'candidates': how many; 'methods': the highest PSNR of each method or chain of methods; 'seconds'.

  Raises:
    ValueError: no images, or an unknown task.
  """
  if not images:
    raise ValueError(f'To choose a method for {task} takes one crop of a training photograph at least.')
  started, tried = time.perf_counter(), candidates(task)

  def score(candidate: classical.Candidate) -> float:
    return float(np.mean([psnr(classical.apply(candidate, degraded), clean) for degraded, clean in images]))

  with futures.ThreadPoolExecutor(os.cpu_count()) as threads:
    scores = list(threads.map(score, tried))
  methods: dict[str, float] = {}
  for candidate, value in zip(tried, scores):
    name = label(candidate)
    methods[name] = max(value, methods.get(name, -math.inf))
  place = int(np.argmax(scores))
  return {
    'steps': [[name, dict(parameters)] for name, parameters in tried[place]],
    'psnr_rgb': scores[place],
    'psnr_rgb_input': float(np.mean([psnr(*pair) for pair in images])),
    'crops': len(images),
    'candidates': len(tried),
    'methods': dict(sorted(methods.items(), key=lambda item: -item[1])),
    'seconds': round(time.perf_counter() - started, 1),
  }


def label(steps: Sequence[Sequence[Any]] | classical.Candidate) -> str:
  """Returns the methods of a candidate, for people."""
  return ', then '.join(name for name, *_ in steps)
