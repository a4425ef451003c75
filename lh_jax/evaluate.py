"""Evaluation: a data set -> restored images -> a table of metrics and a picture to look at.

Each image is degraded by each task with a seed made of its name, quantised to 8 bits as a file would be, restored, and
scored on the 8-bit result. Beside every score stand the degraded input's and VAE(clean)'s, the ceiling that the latent
sets. Paired data sets bring their degraded images.
"""

from __future__ import annotations

import functools
import json
import logging
import pathlib
from typing import Any, Iterator
import zlib

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

import lh_jax
from lh_jax import inference
from lh_jax import metrics
from lh_jax.data import figures
from lh_jax.data import image_files
from lh_jax.data import pairs
from lh_jax.data import sources
from lh_jax.ops import degradations

log = logging.getLogger(__name__)

COLUMNS = ('input', 'restored', 'ceiling')


def open_source(config: ConfigDict) -> sources.Source:
  """Checks the section `evaluate` and opens its data set.

  Raises:
    FileNotFoundError, ValueError: no such data set or task, or a value out of its range.
  """
  settings = config.evaluate
  unknown = [task for task in settings.tasks if task not in degradations.TASKS]
  if unknown or not settings.tasks:
    raise ValueError(f'evaluate.tasks must name some of {degradations.TASKS}, got {tuple(settings.tasks)}.')
  for name in ('alpha', 'severity'):
    if not 0.0 <= settings[name] <= 1.0:
      raise ValueError(f'evaluate.{name} must lie in [0, 1], got {settings[name]}.')
  if settings.max_images < 0:
    raise ValueError(f'evaluate.max_images must be at least 0 (all), got {settings.max_images}.')
  painted = config.data.dead_leaves.to_dict()
  return sources.build(settings.source, path=settings.path, split='test', tasks=tuple(settings.tasks), painted=painted)


def evaluate(config: ConfigDict, workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Evaluates the run in `workdir` and writes evaluation/{results.json, table.md, comparison.png} there.

  Args:
    config: see configs/base.py, section evaluate.
    workdir: a work directory with an export.

  Returns:
    One row per task: {'task', 'images', '<metric>_<column>'} for the columns input, restored and ceiling, averaged over
    images.

  Raises:
    FileNotFoundError, ValueError: no export, or as `open_source`.
  """
  settings = config.evaluate
  source = open_source(config)
  restorer = inference.Restorer.from_pretrained(workdir, dtype=config.train.dtype)
  scores: dict[str, list[dict[str, float]]] = {}
  pictures: list[figures.Row] = []
  for item in source:
    ceiling = None
    for task, degraded in degraded_versions(item, tuple(settings.tasks), settings.severity):
      found = scores.setdefault(task, [])
      if settings.max_images and len(found) == settings.max_images:
        continue
      ceiling = restorer.reconstruct(item['clean']) if ceiling is None else ceiling
      restored = restorer.restore(degraded, alpha=settings.alpha)
      if not found:
        pictures.append(figures.Row(title=task, images=(degraded, restored, ceiling, item['clean'])))
      images = dict(zip(COLUMNS, (degraded, restored, ceiling)))
      score = {
        f'{metric}_{column}': value
        for column, image in images.items()
        for metric, value in metrics.evaluate_pair(image, item['clean']).items()
      }
      found.append(score)
      shown = (score[f'psnr_rgb_{column}'] for column in COLUMNS)
      log.info('%s, %s: PSNR %.2f -> %.2f dB (ceiling %.2f)', item['name'], task, *shown)
  rows = [
    {'task': task, 'images': len(found)} | {name: float(np.mean([score[name] for score in found])) for name in found[0]}
    for task, found in scores.items()
  ]
  folder = workdir / 'evaluation'
  folder.mkdir(parents=True, exist_ok=True)
  report = {
    'lh_jax': lh_jax.__version__,
    'alpha': settings.alpha,
    'severity': settings.severity,
    'data': settings.source,
    'rows': rows,
  }
  (folder / 'results.json').write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
  (folder / 'table.md').write_text(table(rows), encoding='utf-8')
  image_files.write_image(
    folder / 'comparison.png', figures.grid(pictures, titles=('input', 'restored', 'VAE(clean)', 'clean'))
  )
  print(table(rows))
  log.info('Wrote %s.', folder)
  return rows


def degraded_versions(
  item: dict[str, Any], tasks: tuple[str, ...], severity: float
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (task, degraded uint8 image) of one item.

  A pair brings its own. A clean image is degraded by every task; where it comes from the folder of one task, by that
  task alone (a folder 'noise' serves 'noise15', 'noise25' and 'noise50').
  """
  folder = item.get('task')
  if 'degraded' in item:
    yield folder or 'paired', item['degraded']
    return
  clean = jnp.asarray(item['clean'], jnp.float32) / 255.0
  for task in tasks:
    if folder in (None, task, pairs.without_level(task)):
      # Named by file and task: the value of one pixel does not depend on what else is evaluated.
      key = jax.random.key(zlib.crc32(f'{item["name"]}/{task}'.encode()))
      yield task, image_files.to_uint8(np.asarray(_degrade(key, clean, jnp.float32(severity), task=task)))


@functools.partial(jax.jit, static_argnames='task')
def _degrade(key: jax.Array, clean: jax.Array, severity: jax.Array, *, task: str) -> jax.Array:
  return degradations.degrade(key, clean, jnp.int32(0), severity, tasks=(task,))


def table(rows: list[dict[str, Any]]) -> str:
  """Returns the rows as Markdown.

  PSNR (dB) and SSIM on RGB, and whether the restored image is better than its input.
  """
  lines = [
    '| task | PSNR input | restored | VAE(clean) | SSIM input | restored | VAE(clean) | PSNR gain |',
    '|---|---|---|---|---|---|---|---|',
  ]
  for row in rows:
    values = [f'{row[f"psnr_rgb_{column}"]:.2f}' for column in COLUMNS] + [
      f'{row[f"ssim_rgb_{column}"]:.3f}' for column in COLUMNS
    ]
    gain = row['psnr_rgb_restored'] - row['psnr_rgb_input']
    verdict = f'{gain:+.2f}' if gain > 0 else f'{gain:+.2f} (no improvement)'
    lines.append(f'| {row["task"]} | {" | ".join(values)} | {verdict} |')
  return '\n'.join(lines) + '\n'
