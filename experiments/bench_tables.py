"""The section "Benchmarks on a CPU" of README.md: what metrics, synthesis and data reading cost, from their results.

Contract: tables of Markdown, every number out of the JSON files that `bench_metrics.py`, `bench_synthesis.py`,
`bench_data.py` and `bench_training.py` have written.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any, Mapping

from lh_jax import results as results_lib

TWINS = {'ssim_rgb': 'skimage_ssim_rgb', 'ciede2000': 'skimage_ciede2000'}


def maker(report: Mapping[str, Any]) -> str:
  """Returns on what a result was made, for people."""
  return f'{report["cpu"]}, lh_jax {report["lh_jax"]}, JAX {report["jax"]}'


def metrics_table(report: Mapping[str, Any]) -> str:
  """Returns a row for each metric, its twin of scikit-image beside it."""
  rows = {row['metric']: row for row in report['rows']}
  cells = []
  for name, row in rows.items():
    if name in TWINS.values():
      continue
    twin = rows.get(TWINS.get(name))
    if 'not_measured' in row:
      cells.append([f'`{name}`', 'not measured', '', '', ''])
      continue
    beside = [f'{twin["seconds"]:.2f}', f'{twin["peak_gb"]:.2f}'] if twin else ['', '']
    cells.append([f'`{name}`', f'{row["seconds"]:.2f}', f'{row["peak_gb"]:.2f}', *beside])
  return results_lib.markdown(['metric', 'seconds', 'peak GB', 'scikit-image: seconds', 'peak GB'], cells)


def synthesis_table(report: Mapping[str, Any]) -> str:
  """Returns a row for each task."""
  columns = {'task': 'task', 'seconds': 'synthesise_s', 'of it the program': 'degrade_s', 'peak GB': 'peak_gb'}
  cells = [
    [row[field] if field == 'task' else f'{row[field]:.2f}' for field in columns.values()] for row in report['rows']
  ]
  return results_lib.markdown(list(columns), cells)


def data_table(report: Mapping[str, Any]) -> str:
  """Returns a row for each way of reading, and one for what training takes at most."""
  need = report['training_needs']
  cells = [[row['source'], f'{row["images_per_sec"]:.1f}', f'{row["cpu_ms_per_image"]:.1f}'] for row in report['rows']]
  cells.append([f'training takes at most ({need["phase"]})', f'{need["images_per_sec"]:.1f}', ''])
  return results_lib.markdown(['read from', 'images/s', 'CPU ms an image'], cells)


def section(folder: pathlib.Path) -> str:
  """Returns the three tables, from the results in a folder."""
  names = ('metrics_cpu', 'synthesis_cpu', 'data_cpu')
  metrics, synthesis, data = (json.loads((folder / f'{name}.json').read_text(encoding='utf-8')) for name in names)
  crop, need = data['crop'], data['training_needs']['crop']
  compared = f'samples of {crop} px' + f', training of {need} px: not the same samples' * (crop != need)
  return '\n'.join(
    [
      f'One pair of {metrics["size"]} ({maker(metrics)}):\n',
      metrics_table(metrics),
      f'Degrading one image of {synthesis["size"][0]}x{synthesis["size"][1]} ({maker(synthesis)}):\n',
      synthesis_table(synthesis),
      f'Reading pairs by {data["threads"]} threads, {compared} ({maker(data)}):\n',
      data_table(data).rstrip(),
    ]
  )
