"""Does a model restore exposure better where it sees more of the scene, or where the image has the size of its crops?

  python experiments/views.py --photographs PHOTOGRAPHS -o experiments/results/views.json [--checkpoint RUN]

The middle of photographs and of their copies at 1/2 to 1/16 of the size, in several sizes, clean and degraded: PSNR RGB
of the input and of what comes back at alpha 0.5, means over the photographs, and the means in levels. Along a row of
the table the view grows with the image; from row to row the view doubles and the image stays.
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import numpy as np

import lh_jax
from lh_jax import exports
from lh_jax import results
from lh_jax import synthesis
from lh_jax.data import sources
from lh_jax.data.items import pyramid
from diagnose import psnr
import records

LEVELS = 5  # 1, 1/2, ..., 1/16
SIDES = (128, 512, 1024)
TASKS = ('clean', 'low_light', 'haze')


def views(restorer: lh_jax.Restorer, photographs: str) -> list[dict[str, Any]]:
  """Returns a row for each task, reduction and side that all photographs have."""
  whole, rows = sources.folder(photographs, cache_gib=0), []
  copies = pyramid(whole, levels=LEVELS, least=1, cache_gib=2.0)
  for level in range(LEVELS):
    images = [copies[index] for index in range(level * len(whole), (level + 1) * len(whole))]
    least = min(min(image['clean'].shape[:2]) for image in images)
    for side in (side for side in SIDES if side <= least):
      for task in TASKS:
        found = [
          _of_one(restorer, image['name'], synthesis.crop(image['clean'], (side, side)), task) for image in images
        ]
        means = {key: round(float(np.mean([row[key] for row in found])), 2) for key in found[0]}
        rows.append({'task': task, 'reduction': 2**level, 'side': side, 'view': side * 2**level} | means)
        print(rows[-1], flush=True)
  return rows


def _of_one(restorer: lh_jax.Restorer, name: str, clean: np.ndarray, task: str) -> dict[str, float]:
  degraded = clean if task == 'clean' else synthesis.synthesise(clean, name=name, task=task, severity=0.5)
  restored = restorer.restore(degraded)
  found = {'restored': psnr(restored, clean), 'mean_restored': restored.mean(), 'mean_clean': clean.mean()}
  return found if task == 'clean' else {'input': psnr(degraded, clean)} | found


def main() -> None:
  """Writes and prints the rows."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--photographs', required=True, help='folder of photographs that the model was not trained on')
  parser.add_argument('--checkpoint', type=pathlib.Path, help='work directory or export; default: the bundled weights')
  parser.add_argument('-o', '--output', type=pathlib.Path, required=True)
  options = parser.parse_args()
  found = exports.find(options.checkpoint or exports.BUNDLED)
  report = records.made_by() | {'sha256': results.file_hash(found / 'params.safetensors')}
  report['views'] = views(lh_jax.Restorer.from_pretrained(options.checkpoint), options.photographs)
  results.write_json(options.output, report, indent=1)


if __name__ == '__main__':
  main()
