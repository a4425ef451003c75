"""What the tables share: our numbers beside the paper's, the least of their trends, and their picture.

Contract: measured rows are those of `runs.evaluate`. The headline is PSNR and SSIM on luma, the protocol of the paper's
benchmark; LPIPS stands only where its weights are converted.
"""

from __future__ import annotations

import argparse
from typing import Any, Mapping, Sequence

from matplotlib.figure import Figure
import numpy as np

from lh_jax.data import pairs
import scales
import trends as trends_lib

METRICS = {'psnr': 'psnr_y', 'ssim': 'ssim_y', 'lpips': 'lpips_alex'}


def of_method(rows: Sequence[Mapping[str, Any]], method: str = 'Ours') -> dict[str, Mapping[str, Any]]:
  """Returns a method's published rows by task; the levels of noise share one where the paper tells their mean."""
  return {row['task']: row for row in rows if row['method'] == method}


def beside(measured: Sequence[Mapping[str, Any]], paper: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Returns one row per task: the paper's value of each metric, and ours of input, restored image and VAE(clean).

  Where the paper tells the mean over the levels of noise, every level stands beside that mean.
  """
  rows = []
  for row in measured:
    told = paper.get(row['task']) or paper.get(pairs.without_level(row['task'])) or {}
    found = {'task': row['task']}
    for metric, name in METRICS.items():
      values = {'paper': told.get(metric)} | {
        column: row.get(f'{name}_{column}') for column in ('input', 'restored', 'ceiling')
      }
      found |= {f'{metric} {column}': value for column, value in values.items()}
    rows.append(found)
  empty = {name for name in rows[0] if all(row[name] is None for row in rows)}
  return [{name: value for name, value in row.items() if name not in empty} for row in rows]


def improvements(options: argparse.Namespace, measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """The least that a table claims: on each task, the restored images are better than their inputs."""
  few = scales.few_steps(options.scale, 'stage1.steps', 'stage2.restorer_steps')
  return [
    trends_lib.higher(
      f'{row["task"]}: the restored images have a higher PSNR than their inputs',
      'psnr_y',
      {column: row[f'psnr_y_{column}'] for column in ('restored', 'input')},
      why='the input is above VAE(clean), the ceiling' if row['psnr_y_input'] > row['psnr_y_ceiling'] else few,
    )
    for row in measured
    if row['task'] != 'average'
  ]


def why(options: argparse.Namespace, trends: Sequence[Mapping[str, Any]]) -> str:
  """Returns why our numbers are not the paper's, for people: first of the trends, then of all numbers."""
  short = f'{scales.few_steps(options.scale)}, small crops of few photographs, synthetic degradations'
  texts = [trends_lib.why(trends)] + [f'all numbers: {short}'] * (options.scale != 'paper')
  return '; '.join(text for text in texts if text)


def headline(row: Mapping[str, Any], column: str = 'restored') -> str:
  """Returns PSNR, SSIM and LPIPS of a measured row as short text."""
  return number_line(*(row.get(f'{name}_{column}') for name in METRICS.values()))


def number_line(psnr: float | None, ssim: float | None = None, lpips: float | None = None) -> str:
  """Returns 'PSNR / SSIM / LPIPS' as short text; a dash where one is missing."""
  texts = ['-' if value is None else f'{value:.{digits}f}' for value, digits in ((psnr, 2), (ssim, 3), (lpips, 3))]
  return ' / '.join(texts)


def listing(values: Mapping[str, float | None]) -> str:
  """Returns 'name value, ...' as short text."""
  return ', '.join(f'{name} {"-" if value is None else f"{value:.2f}"}' for name, value in values.items())


def bars(rows: Sequence[Mapping[str, Any]], series: Sequence[str], *, label: str, axis: str) -> Figure:
  """A picture of rows of `beside`, or of any rows with numbers.

  Args:
    rows: one group of bars each.
    series: the names of their numbers.
    label: the name of their text.
    axis: what the numbers are.
  """
  figure = Figure(figsize=(max(5, 1.2 * len(rows)), 3.2), layout='constrained')
  axes = figure.subplots()
  places, width = np.arange(len(rows)), 0.8 / len(series)
  for index, name in enumerate(series):
    values = [row.get(name) for row in rows]
    heights = [np.nan if value is None or not np.isfinite(value) else value for value in values]
    if not np.all(np.isnan(heights)):
      axes.bar(places + (index - (len(series) - 1) / 2) * width, heights, width, label=name)
  axes.set_xticks(places, [str(row[label]) for row in rows], rotation=20, ha='right', fontsize=8)
  axes.set_ylabel(axis)
  figure.legend(loc='outside upper center', ncols=len(series), fontsize=7)
  return figure


PSNR_BARS = ('psnr paper', 'psnr input', 'psnr restored', 'psnr ceiling')
