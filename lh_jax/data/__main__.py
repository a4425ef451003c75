"""Command line for data sets: `python -m lh_jax.data check DIR --dataset NAME` and `... prepare DIR OUT --dataset NAME`.

Exit status: 0 all is well; 1 the data set has problems, or its crops could not be written; 2 a usage error.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import sys

from lh_jax import progress
from lh_jax import reports as reports_lib
from lh_jax.data import check
from lh_jax.data import prepare
from lh_jax.data import splits
from lh_jax.data import unfinished
from lh_jax.data.datasets import DATASETS
from lh_jax.data.datasets import PUBLISHED_SPLITS


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m lh_jax.data',
    description='Check downloaded data sets of the benchmark, and cut them into crops for training.',
    epilog='Data sets: ' + '; '.join(f'{name} is {dataset.title}' for name, dataset in DATASETS.items()),
  )
  commands = parser.add_subparsers(dest='command', required=True, metavar='check | prepare')
  checker = commands.add_parser(
    'check', help='say what is missing, damaged or different', description='Check a downloaded data set.'
  )
  checker.add_argument(
    '--split', choices=(*PUBLISHED_SPLITS, 'all'), default='all', help='published split; default all'
  )
  checker.add_argument('--deep', action='store_true', help='decode every image, not only headers and ends of files')
  checker.add_argument('--json', metavar='FILE', help='also write the report to a JSON file')
  cutter = commands.add_parser(
    'prepare',
    help='cut a data set into overlapping crops',
    description='Cut one split of a data set into overlapping crops, read by --config.data.source=crops. '
    'The same command goes on where it was stopped.',
  )
  cutter.add_argument('--split', choices=splits.SPLITS, default='train', help='default train, without the validation')
  cutter.add_argument('--size', type=int, default=512, help='side of a crop in pixels; default %(default)s')
  cutter.add_argument('--overlap', type=int, default=64, help='pixels that neighbours share; default %(default)s')
  cutter.add_argument('--images-per-file', type=int, default=16, help='whole images per file; default %(default)s')
  cutter.add_argument(
    '--accept-renamed', action='store_true', help='take files that are not what their suffix says, by their bytes'
  )
  for command in (checker, cutter):
    command.add_argument('dir', metavar='DIR', help='folder of the data set')
    command.add_argument('--dataset', required=True, choices=DATASETS, metavar='NAME', help=', '.join(DATASETS))
    command.add_argument('--threads', type=int, default=4, help='files at a time; default %(default)s')
  cutter.add_argument('out', metavar='OUT', help='folder to write to')
  return parser


def _check(options: argparse.Namespace) -> int:
  dataset = DATASETS[options.dataset]
  if options.json:
    reports_lib.check(Path(options.json))
  chosen = PUBLISHED_SPLITS if options.split == 'all' else (options.split,)
  reports = []
  for split in chosen:
    with progress.Count('img', shown=progress.wanted()) as bar:
      reports.append(
        check.check_split(options.dir, dataset, split, deep=options.deep, threads=options.threads, advance=bar)
      )
  print('\n'.join(check.lines(dataset, reports)))
  if options.json:
    told = check.as_json(options.dir, dataset, reports, deep=options.deep)
    with unfinished.replacing(options.json) as begun:
      begun.write_text(json.dumps(told, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')
  return 1 if any(report.problems for report in reports) else 0


def _prepare(options: argparse.Namespace) -> int:
  with progress.Count('img', shown=progress.wanted()) as bar:
    manifest = prepare.prepare(
      options.dir,
      options.out,
      DATASETS[options.dataset],
      split=options.split,
      size=options.size,
      overlap=options.overlap,
      images_per_file=options.images_per_file,
      threads=options.threads,
      accept_renamed=options.accept_renamed,
      advance=bar,
    )
  print(f'{manifest["crops"]} crops of {manifest["images"]} images in {len(manifest["shards"])} file(s): {options.out}')
  return 0


def main(arguments: list[str] | None = None) -> int:
  """Runs a command.

  Args:
    arguments: command-line arguments without the program's name; None takes those of the process.

  Returns:
    Exit status.
  """
  parser = _parser()
  options = parser.parse_args(arguments)
  if not Path(options.dir).is_dir():
    parser.error(f'{options.dir} is not a folder. {DATASETS[options.dataset].instructions}')
  if options.threads < 1:
    parser.error(f'--threads must be at least 1, got {options.threads}')
  try:
    return _check(options) if options.command == 'check' else _prepare(options)
  except (OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1


if __name__ == '__main__':
  sys.exit(main())
