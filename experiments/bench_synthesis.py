"""Seconds and memory of degrading one photograph, task by task.

    python experiments/bench_synthesis.py -o experiments/results/synthesis_cpu.json

Each task runs in a process of its own, so that the peak is its own. Compilation is apart. "Degrade" is the program
alone, the best of the repeats; "CPU" is the processor time that this run took, on all cores together, which other
programs on the machine disturb less; "synthesise" is from 8 bits to 8 bits, as for a test set, without files.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import pathlib
import resource
import time
from typing import Any

import jax
import numpy as np

from lh_jax import synthesis
from lh_jax.ops import degradations
from lh_jax.save_portable import parse_image_size
import records


def peak_bytes() -> int:
  """The largest memory that this process has held."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(task: str, size: tuple[int, int], repeats: int) -> dict[str, Any]:
  """Times one task in this process."""
  width, height = size
  clean = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
  image, severity = jax.numpy.asarray(clean, np.float32) / 255, np.float32(0.5)
  key = jax.block_until_ready(synthesis.random_key('a.png', task))
  before = peak_bytes()
  started = time.perf_counter()
  program = jax.jit(degradations.DEGRADATIONS[task]).lower(key, image, severity).compile()
  compiled = time.perf_counter() - started
  found = []
  for _ in range(repeats):
    started, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(program(key, image, severity))
    found.append((time.perf_counter() - started, time.process_time() - cpu))
  program_peak = peak_bytes()
  seconds = []
  for _ in range(repeats + 1):  # the first one compiles
    started = time.perf_counter()
    synthesis.synthesise(clean, name='a.png', task=task, severity=0.5)
    seconds.append(time.perf_counter() - started)
  best, cpu = min(found)
  return {
    'task': task,
    'compile_s': compiled,
    'degrade_s': best,
    'degrade_cpu_s': cpu,
    'synthesise_s': min(seconds),
    'program_gb': (program_peak - before) / 1e9,
    'peak_gb': peak_bytes() / 1e9,
  }


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--size', type=parse_image_size, default=(3840, 2160), help='width x height')
  parser.add_argument('--tasks', nargs='+', choices=degradations.BENCHMARK, default=list(degradations.BENCHMARK))
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('-o', '--output', type=pathlib.Path)
  options = parser.parse_args(arguments)
  rows = []
  print('| task | compile s | degrade s | CPU s | synthesise s | GB of the program | GB at the peak |')
  print('|---|---|---|---|---|---|---|')
  spawn = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
    for task in options.tasks:
      rows.append(pool.submit(measure, task, options.size, options.repeats).result())
      print('|', ' | '.join([task, *(f'{value:.2f}' for name, value in rows[-1].items() if name != 'task')]), '|')
  if options.output:
    report = records.made_by() | {'size': list(options.size), 'repeats': options.repeats, 'rows': rows}
    options.output.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
  main()
