"""Results of experiments: the paper's numbers, and the files that one run leaves, with where they come from.

Contract: RESULTS/NAME.json holds what was found and its provenance (versions, scale, device, seed, seconds, lengths of
training); a picture, if any, lies beside it as NAME.png, or NAME.jpg for photographs, and is small enough to commit.
"""

from __future__ import annotations

import argparse
import json
import logging
import pathlib
import platform
import time
from typing import Any, Mapping, Sequence

import jax
import numpy as np

import lh_jax
from lh_jax import protocols
from lh_jax import results as results_lib
from lh_jax.data import image_files
import scales

HERE = pathlib.Path(__file__).resolve().parent
VERDICTS = {True: 'came out', False: 'not reproduced at this scale', None: 'cannot be told'}
PICTURE_BYTES = 200_000
log = logging.getLogger('lh_jax')


def published(item: str) -> dict[str, Any]:
  """Returns the paper's numbers of 'table1', 'supp_table4' and so on, with their source.

  Raises:
    ValueError: there are none of that name.
  """
  found = json.loads((HERE / 'published.json').read_text(encoding='utf-8'))
  if item not in found:
    raise ValueError(f'published.json has no {item!r}; it has {", ".join(found)}.')
  return found[item]


def device() -> str:
  """Returns the devices of this process, for people."""
  return f'{jax.device_count()} x {jax.devices()[0].device_kind}'


def write(
  options: argparse.Namespace,
  name: str,
  result: Mapping[str, Any],
  figure: Any = None,
  *,
  not_computed: Mapping[str, str],
) -> None:
  """Writes NAME.json and NAME.png into the folder of results, and prints the rows as Markdown.

  Args:
    options: of `runs.parser`.
    name: of the experiment.
    result: what was found; `rows`, a list of flat dicts, is printed; `summary` {'item', 'paper', 'ours', 'why'} is its
      row in README.md; `trends`, a list of {'claim', 'holds', ...}, says what came out as in the paper (None: could not
      be told).
    figure: a matplotlib figure, or an (H, W, 3) uint8 image, written as NAME.jpg.
    not_computed: metrics that could not be, and why.
  """
  folder = options.output
  provenance = {
    'lh_jax': lh_jax.__version__,
    'jax': jax.__version__,
    'python': platform.python_version(),
    'device': device(),
    'scale': options.scale,
    'seed': options.seed,
    'images': 'real data sets' if options.scale == 'paper' else 'photographs' if options.photos else 'embedded',
    'protocol': protocols.DEFAULT,
    'not_computed': dict(not_computed),
    # Each with a hash of its configuration.
    'variants': options.variants,
    'training': scales.describe(options.scale) if options.variants else None,
    'seconds': round(time.perf_counter() - options.started, 1),
  }
  results_lib.write_json(folder / f'{name}.json', {**result, 'provenance': provenance}, indent=1)
  if isinstance(figure, np.ndarray):
    _write_picture(folder / f'{name}.jpg', figure)
  elif figure is not None:
    figure.savefig(folder / f'{name}.png', dpi=80)
  if result.get('rows'):
    print(markdown(result['rows']), end='')
  for trend in result.get('trends', ()):
    print(f'{VERDICTS[trend["holds"]]}: {trend["claim"]}')
  log.info('Wrote %s.', folder / f'{name}.json')


def _write_picture(path: pathlib.Path, image: np.ndarray) -> None:
  for quality in range(90, 10, -10):
    image_files.write_image(path, image, quality=quality)
    if path.stat().st_size < PICTURE_BYTES:
      return


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
  """Returns flat rows as a Markdown table; a value that a row lacks stays empty."""
  columns = list(dict.fromkeys(name for row in rows for name in row))
  return results_lib.markdown(columns, [[_cell(row.get(name)) for name in columns] for row in rows])


def _cell(value: Any) -> str:
  if isinstance(value, (float, np.floating)):
    return f'{value:.3f}' if abs(value) < 5 else f'{value:.2f}'
  return '' if value is None else str(value)
