"""Speed of reading training data: whole 4K pairs against prepared crops, in images a second.

  python experiments/bench_data.py PHOTOS -o experiments/results/data_cpu.json

PHOTOS is a folder of clean photographs. From the first of them a stand-in for UHD-LL is made in a temporary folder (the
degraded half is darkened), once as PNG and once as JPEG of quality 95; the former is prepared as crops too. Every way is
read through the real pipeline (`data.pipeline`: random crop and turn, threads), without the cache of decoded images, and
stands beside what the training step takes at most (`results/training_cpu.json`), in samples of the same size.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import tempfile
import time

import numpy as np

from lh_jax.data import crops
from lh_jax.data import datasets
from lh_jax.data import image_files
from lh_jax.data import layouts
from lh_jax.data import pipeline
from lh_jax.data import prepare
from lh_jax.data.items import Source
import records

DATASET = datasets.find('uhd_ll')
TRAINING = pathlib.Path(__file__).parent / 'results' / 'training_cpu.json'


def make_set(photos: list[pathlib.Path], folder: pathlib.Path, suffix: str) -> None:
  """Lays the photographs out as the training split of UHD-LL."""
  for index, photo in enumerate(photos):
    clean = image_files.to_uint8(image_files.read_rgb(photo))
    dark = np.round(255 * (clean / 255.0) ** 2.2 * 0.6).astype(np.uint8)
    for half, pixels in (('gt', clean), ('input', dark)):
      image_files.write_image(folder / 'train' / half / f'{index:04d}{suffix}', pixels)


def read(source: Source, *, crop: int, batch: int, batches: int, threads: int) -> dict[str, float]:
  """Training samples a second, and what each costs; the first batch, which starts the threads, is not counted."""
  options = {'tasks': ('low_light',), 'batch_size': batch, 'crop_size': crop, 'seed': 0, 'num_threads': threads}
  with pipeline.training_batches(source, **options, num_steps=batches + 1) as stream:
    next(stream)
    start, start_cpu = time.perf_counter(), time.process_time()
    for _ in range(batches):
      next(stream)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
  return {'images_per_sec': batches * batch / seconds, 'cpu_ms_per_image': 1000 * cpu_seconds / (batches * batch)}


def measure(photos: list[pathlib.Path], options: argparse.Namespace) -> dict:
  """All ways of reading, and what preparing costs."""
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    for suffix in ('.png', '.jpg'):
      make_set(photos, folder / suffix, suffix)
    start = time.perf_counter()
    settings = {'split': 'train+val', 'size': options.size, 'overlap': options.overlap, 'threads': options.threads}
    manifest = prepare.prepare(folder / '.png', folder / 'crops', DATASET, **settings)
    seconds = time.perf_counter() - start
    ways = {
      'whole PNG pairs': (layouts.source('uhd_ll', folder / '.png', split='train+val', cache_gib=0), 2),
      'whole JPEG pairs': (layouts.source('uhd_ll', folder / '.jpg', split='train+val', cache_gib=0), 2),
      f'crops of {options.size}': (crops.source(folder / 'crops', split='train+val', cache_gib=0), 40),
    }
    rows = [
      {'source': way, 'crop': options.crop}
      | read(source, crop=options.crop, batch=options.batch, batches=batches, threads=options.threads)
      for way, (source, batches) in ways.items()
    ]
    whole = sum(path.stat().st_size for path in (folder / '.png').rglob('*.png'))
    prepared = {
      'pairs': manifest['images'],
      'crops': manifest['crops'],
      'seconds_per_pair': seconds / manifest['images'],
      'bytes_over_whole_png': sum(shard['bytes'] for shard in manifest['shards']) / whole,
    }
  return {'rows': rows, 'prepare': prepared}


def main() -> None:
  """Runs the benchmark and prints its table."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('photos', type=pathlib.Path, help='folder of clean photographs')
  parser.add_argument('--count', type=int, default=4, help='how many of them; default %(default)s')
  parser.add_argument('--size', type=int, default=512, help='side of the prepared crops; default %(default)s')
  parser.add_argument('--overlap', type=int, default=64, help='default %(default)s')
  parser.add_argument('--crop', type=int, help="side of a training sample; default: that of the training step's result")
  parser.add_argument('--batch', type=int, default=8, help='default %(default)s')
  parser.add_argument('--threads', type=int, default=2, help='default %(default)s')
  parser.add_argument('-o', '--output', type=pathlib.Path, help='JSON file to write')
  options = parser.parse_args()
  need = max(json.loads(TRAINING.read_text(encoding='utf-8'))['rows'], key=lambda row: row['images_per_sec'])
  options.crop = options.crop or need['crop']
  photos = image_files.list_images(options.photos)[: options.count]
  sizes = sorted({'{1}x{0}'.format(*image_files.size(photo)) for photo in photos})
  found = measure(photos, options)
  print('| read from | images/s | CPU ms an image |\n|---|---|---|')
  for row in found['rows']:
    print('| {source} | {images_per_sec:.1f} | {cpu_ms_per_image:.0f} |'.format(**row))
  print('| training step takes at most ({phase}, crop {crop}) | {images_per_sec:.1f} | |'.format(**need))
  print(
    'preparing: {seconds_per_pair:.2f} s a pair, {bytes_over_whole_png:.2f} of the bytes'.format(**found['prepare'])
  )
  if options.output:
    settings = {name: getattr(options, name) for name in ('size', 'overlap', 'crop', 'batch', 'threads')}
    report = records.made_by() | {
      # Much above the number of cores, others had a share of them; the CPU time is then the one to read.
      'load_average': os.getloadavg()[0],
      'photographs': {'count': len(photos), 'sizes': sizes},
      **settings,
      **found,
      'training_needs': need,
    }
    options.output.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
  main()
