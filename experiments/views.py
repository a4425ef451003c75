"""Does a model restore exposure better where it sees more of the scene, or where the image has the size of its crops?

  python experiments/views.py --photographs PHOTOGRAPHS -o experiments/results/views.json [--checkpoint RUN]

The middle of photographs and of their copies at 1/2, 1/4 and 1/8 of the size, in squares of several sides, clean and
degraded at severity 0.5: PSNR RGB in dB of the input and of what comes back at alpha 0.5, and the means in levels of
255, all averaged over the photographs. What a photograph is degraded with (its exposure, its depth) is the same for its
copies. 'view' is what a square shows of the scene, in pixels of the photograph.
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import numpy as np

import lh_jax
from lh_jax import evaluate
from lh_jax import exports
from lh_jax import results
from lh_jax import synthesis
from lh_jax.data import sources
from lh_jax.data.items import pyramid
from lh_jax.data.items import Source
from diagnose import psnr
import records

LEVELS = 4  # 1, 1/2, 1/4, 1/8
SIDES = (128, 512, 1024)
TASKS = ('clean', 'low_light', 'haze')
SEVERITY, ALPHA = 0.5, 0.5


def views(restorer: lh_jax.Restorer, whole: Source) -> list[dict[str, Any]]:
  """Returns a row for each reduction, each side that all photographs have at it, and each task."""
  copies, rows = pyramid(whole, levels=LEVELS, least=1, cache_gib=0.0), []
  for level in range(LEVELS):
    images = [copies[index]['clean'] for index in range(level * len(whole), (level + 1) * len(whole))]
    least = min(min(image.shape[:2]) for image in images)
    for side in [side for side in SIDES if side <= least]:
      for task in TASKS:
        squares = [(item.name, synthesis.crop(image, (side, side))) for item, image in zip(whole.items, images)]
        found = [measure(restorer, name, clean, task) for name, clean in squares]
        means = {key: round(float(np.mean([row[key] for row in found])), 2) for key in found[0]}
        rows.append({'task': task, 'reduction': 2**level, 'side': side, 'view': side * 2**level} | means)
        print(rows[-1], flush=True)
  return rows


def measure(restorer: lh_jax.Restorer, name: str, clean: np.ndarray, task: str) -> dict[str, float]:
  """Degrades and restores one image, (H, W, 3) uint8; PSNR in dB, means in levels of 255. `name` decides the random
  numbers of the degradation.
  """
  degraded = clean
  if task != 'clean':
    degraded = synthesis.synthesise(clean, name=name, task=task, severity=SEVERITY)
  restored = restorer.restore(degraded, alpha=ALPHA)
  found = {
    'restored': psnr(restored, clean),
    'mean_restored': float(restored.mean()),
    'mean_clean': float(clean.mean()),
  }
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
  photographs = sources.folder(options.photographs, cache_gib=0)
  report |= {'photographs': evaluate.listing(photographs), 'severity': SEVERITY, 'alpha': ALPHA}
  report['views'] = views(lh_jax.Restorer.from_pretrained(options.checkpoint), photographs)
  results.write_json(options.output, report, indent=1)


if __name__ == '__main__':
  main()
