"""Degrades a small drawn picture by every task: `python tests/synthesis/make_golden.py FILE.npz [TASK ...]`.

tests/fixtures/synthesis_golden.npz was made by it with jax 0.10.2 on a CPU (x86-64, AVX2), XLA's flags as they are.
"""

import pathlib
import sys

import numpy as np

from lh_jax import synthesis
from lh_jax.ops import degradations

NAME, SEVERITY, SEED = 'shapes/drawn.png', 0.7, 3


def clean() -> np.ndarray:
  """Bands and blocks in integers, so that it is the same everywhere: (40, 48, 3)."""
  y, x, c = np.indices((40, 48, 3))
  return ((5 * y + 3 * x * (c + 1) + 90 * ((y // 8 + x // 12) % 2)) % 256).astype(np.uint8)


def main(path: str, *tasks: str) -> None:
  found = {
    task: synthesis.synthesise(clean(), name=NAME, task=task, severity=SEVERITY, seed=SEED)
    for task in tasks or degradations.BENCHMARK
  }
  np.savez_compressed(pathlib.Path(path), **found)


if __name__ == '__main__':
  main(*sys.argv[1:])
