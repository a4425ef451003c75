"""Main Table 5b: seconds to restore one image, on whatever device is there.

  python experiments/table5b.py --scale=smoke
  python experiments/table5b.py --scale=paper --data=DATA

Warm (compiled, run once), from 8-bit pixels on the host to 8-bit pixels on the host, which waits for the device; median
of several runs. Paper's claim: 0.43 s for a 4K image on an RTX 3090, a third of the next method's. `bench_inference.py`
measures more sizes and where the time goes.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

import runs
import tables

# Height, width, runs.
SIZES = {'dry': (64, 64, 2), 'smoke': (1024, 1024, 5), 'paper': (2160, 3840, 11)}


def main(arguments: list[str] | None = None) -> None:
  """Trains the model where it is missing, times it, and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  height, width, count = SIZES[options.scale]
  model = runs.restorer(runs.train('full', options))
  image = np.random.default_rng(options.seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
  model.restore(image)
  seconds = []
  for _ in range(count):
    started = time.perf_counter()
    model.restore(image)
    seconds.append(time.perf_counter() - started)
  paper = runs.published('table5b')['rows']
  rows = [row | {'device': 'RTX 3090', 'size': '3840x2160', 's per MP': row['seconds'] / 8.2944} for row in paper]
  median = statistics.median(seconds)
  ours = {'method': 'lh_jax', 'seconds': median, 'device': runs.device(), 'size': f'{width}x{height}'}
  rows.append(ours | {'s per MP': median / (height * width / 1e6)})
  summary = {
    'item': 'Table 5b',
    'paper': f'{paper[-1]["seconds"]} s for 3840x2160, RTX 3090',
    'ours': f'{median:.2f} s for {width}x{height}, {runs.device()}',
    'why': 'another device, and another size' if options.scale != 'paper' else 'another device',
  }
  figure = tables.bars(rows, ('s per MP',), label='method', axis='seconds per megapixel')
  runs.write(options, 'table5b', {'rows': rows, 'seconds': seconds, 'summary': summary}, figure)


if __name__ == '__main__':
  runs.run(main)
