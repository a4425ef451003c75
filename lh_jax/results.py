"""Results of scoring: averages, and files of them as CSV, JSON and Markdown.

Contract: a score is a flat dict of what names an image ('set', 'task', 'name') and its values. A value that was not
computed is absent, and empty in CSV; an infinite one (the PSNR of equal images) is the word inf in every file, so that
the JSON is strict. The mean over images is that of the images' values, every image counting the same; the average over
rows is the plain mean of their means, as in the tables of the paper (main paper, Table 1: six columns, of which
three are noise).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
import csv
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from lh_jax import storage
from lh_jax.data import unfinished

# Title and decimals.
METRICS = {
  'psnr_y': ('PSNR Y (dB)', 2),
  'ssim_y': ('SSIM Y', 3),
  'psnr_rgb': ('PSNR RGB (dB)', 2),
  'ssim_rgb': ('SSIM RGB', 3),
  'lpips_alex': ('LPIPS Alex', 4),
  'lpips_vgg': ('LPIPS VGG', 4),
  'ciede2000': ('CIEDE2000', 2),
  'niqe': ('NIQE', 3),
  'fid': ('FID', 2),
  'patch_fid': ('patch FID', 2),
}


def mean(scores: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Returns the mean of every number that all of the scores have; infinite where one of them is."""
  return {
    name: math.fsum(score[name] for score in scores) / len(scores)
    for name, value in scores[0].items()
    if isinstance(value, float) and all(name in score for score in scores)
  }


def by_task(scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Returns one row for every set and task, in the order in which they come: 'set', 'task', 'images' and the means."""
  groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
  for score in scores:
    groups.setdefault((score['set'], score['task']), []).append(score)
  return [{'set': key[0], 'task': key[1], 'images': len(found), **mean(found)} for key, found in groups.items()]


def average(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Returns the mean over rows, each counting the same whatever its number of images, and over which rows it is."""
  return {'over': [label(row, rows) for row in rows], **mean(rows)}


def label(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
  """Returns what to call a row: its task, and its set where there are several."""
  return row['task'] if len({other['set'] for other in rows}) == 1 else f'{row["set"]}: {row["task"]}'


def caveats(report: Mapping[str, Any]) -> str:
  """Returns the protocol of a result and which values it lacks, for below its table."""
  protocol = report['protocol']
  lacking = [f'{METRICS[metric][0]} is {reason}.' for metric, reason in report['not_computed'].items()]
  words = [f'Protocol {protocol["name"]}, version {protocol["version"]}.', *lacking]
  if ({'fid', 'patch_fid'} & report['models'].keys()) - report['not_computed'].keys():
    words.append('FID of few images is too high: compare only sets of equal counts.')
  return ' '.join(words)


def shown(metric: str, value: float) -> str:
  """Returns a value with the decimals of its metric."""
  return f'{value:.{METRICS[metric][1]}f}'


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
  """Returns a Markdown table; cells may hold anything but line breaks."""
  cells = [header, ['---'] * len(header), *lines]
  return ''.join(f'| {" | ".join(cell.replace("|", "&#124;") for cell in line)} |\n' for line in cells)


def strict(value: Any) -> Any:
  """Returns `value` as strict JSON can hold it: numpy's numbers as Python's, and 'inf', '-inf', 'nan' as text."""
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  if isinstance(value, Mapping):
    return {name: strict(inner) for name, inner in value.items()}
  if isinstance(value, (list, tuple)):
    return [strict(inner) for inner in value]
  return value


def write_json(path: Path, report: Mapping[str, Any], *, indent: int = 2) -> None:
  """Writes a report, `strict`, which appears whole or not at all."""
  write_text(path, json.dumps(strict(report), indent=indent, allow_nan=False) + '\n')


def write_csv(path: Path, scores: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
  """Writes one line an image, numbers in full; a value that a score lacks stays empty."""

  def write(stream: Any) -> None:
    lines = csv.DictWriter(stream, columns, restval='', extrasaction='ignore', lineterminator='\n')
    lines.writeheader()
    lines.writerows(scores)

  _write(path, write)


def write_text(path: Path, text: str) -> None:
  """Writes a text, which appears whole or not at all."""
  _write(path, lambda stream: stream.write(text))


def _write(path: Path, write: Callable[[Any], Any]) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  # A file's name need not be valid Unicode.
  encoding = {'encoding': 'utf-8', 'errors': 'backslashreplace', 'newline': ''}
  with unfinished.replacing(path) as begun, begun.open('w', **encoding) as stream:
    write(stream)


def list_hash(entries: Iterable[tuple[Any, ...]]) -> str:
  """Returns the SHA-256 of a list of files: one line for each entry, its parts joined by tabs, the lines sorted.

  Tells whether two results are of the same images without reading them: entries hold names, pixels and bytes.
  """
  lines = sorted('\t'.join(map(str, entry)) for entry in entries)
  return hashlib.sha256('\n'.join(lines).encode('utf-8', 'backslashreplace')).hexdigest()


def file_hash(path: Path) -> str:
  """Returns the SHA-256 of a file's bytes."""
  with storage.fetched(path) as local, local.open('rb') as stream:
    return hashlib.file_digest(stream, 'sha256').hexdigest()
