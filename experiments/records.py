"""Results of experiments: the paper's numbers, and the files that one run leaves, with where they come from.

Contract: RESULTS/NAME.json holds what was found and its provenance (versions, git revision, device, scale, seed,
seconds, lengths of training); a picture, if any, lies beside it as NAME.png, or NAME.jpg for photographs, and is small enough to commit.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import pathlib
import platform
import subprocess
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
# What of the repository decides a result.
CODE = ('lh_jax', 'configs', 'experiments/*.py', 'experiments/published.json')
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


def cpu() -> str:
  """Returns the model of the processor, for people."""
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text(encoding='utf-8').splitlines() if info.is_file() else []
  names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
  return names[0] if names else platform.processor() or platform.machine()


def _git(*arguments: str) -> subprocess.CompletedProcess[str] | None:
  """Runs git in the repository of this file; None where there is no git."""
  command = ['git', '-C', str(HERE.parent), *arguments]
  try:
    return subprocess.run(command, capture_output=True, text=True, check=False)
  except OSError:
    return None


def revision() -> dict[str, Any]:
  """Returns the git 'revision' of this code and whether the tree was 'dirty' beside it; {} where git is not at hand."""
  head, changed = _git('rev-parse', '--show-prefix', 'HEAD'), _git('status', '--porcelain', '--', *CODE)
  # In another project's repository, the prefix is not empty.
  if head is None or head.returncode or not head.stdout.startswith('\n'):
    return {}
  return {'revision': head.stdout.strip(), 'dirty': bool(changed.stdout)}


def code_changed_since(commit: str) -> bool:
  """Whether the code is another than at a git revision, or that revision is unknown here."""
  found = _git('diff', '--quiet', commit, '--', *CODE)
  return found is None or found.returncode != 0


def made_by() -> dict[str, Any]:
  """Returns what makes a result: versions, device, processor, and the revision of the code."""
  return {
    'lh_jax': lh_jax.__version__,
    'jax': jax.__version__,
    'numpy': np.__version__,
    'python': platform.python_version(),
    'device': device(),
    'cpu': f'{cpu()}, {os.cpu_count()} cores',
    **revision(),
  }


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
      row in README.md, where `status` stands if it is not 'ran'; `trends`, those of the module of that name, say what
      came out as in the paper.
    figure: a matplotlib figure, or an (H, W, 3) uint8 image, written as NAME.jpg.
    not_computed: metrics that could not be, and why.
  """
  folder = options.output
  provenance = made_by() | {
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
    write_picture(folder / f'{name}.jpg', figure)
  elif figure is not None:
    figure.savefig(folder / f'{name}.png', dpi=80)
  if result.get('rows'):
    print(markdown(result['rows']), end='')
  for trend in result.get('trends', ()):
    print(f'{VERDICTS[trend["holds"]]}: {trend["claim"]}' + f' ({trend["why"]})' * bool(trend['why']))
  log.info('Wrote %s.', folder / f'{name}.json')


def write_picture(path: pathlib.Path, image: np.ndarray) -> None:
  """Writes an (H, W, 3) uint8 image as JPEG, at the highest quality that leaves it small enough to commit."""
  for quality in range(90, 10, -10):
    image_files.write_image(path, image, quality=quality)
    if path.stat().st_size < PICTURE_BYTES:
      return


def write_section(readme: pathlib.Path, text: str, marks: tuple[str, str]) -> None:
  """Puts text between two marks of README.md.

  Raises:
    ValueError: the marks are not there.
  """
  found = readme.read_text(encoding='utf-8')
  if any(found.count(mark) != 1 for mark in marks):
    raise ValueError(f'{readme} must have the lines {marks[0]!r} and {marks[1]!r} once each, around the tables.')
  before, _, rest = found.partition(marks[0])
  after = rest.partition(marks[1])[2]
  readme.write_text(f'{before}{marks[0]}\n{text}\n{marks[1]}{after}', encoding='utf-8')


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
  """Returns flat rows as a Markdown table; a value that a row lacks stays empty."""
  columns = list(dict.fromkeys(name for row in rows for name in row))
  return results_lib.markdown(columns, [[_cell(row.get(name)) for name in columns] for row in rows])


def _cell(value: Any) -> str:
  if isinstance(value, (float, np.floating)):
    return f'{value:.3f}' if abs(value) < 5 else f'{value:.2f}'
  return '' if value is None else str(value)
