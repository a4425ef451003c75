"""Runs every experiment of the paper, one process each, and writes the tables of README.md: theirs and the benchmarks'.

  python experiments/run_all.py --scale=smoke
  python experiments/run_all.py --scale=smoke --only table1 table2 --overwrite
  python experiments/run_all.py --readme                                        # only the tables, from the results

Other options go to every experiment (see runs.py). One that fails does not stop the others; one that has a result of
this version, scale and seed is skipped unless there are such options, or --overwrite; where the code has changed since,
that is told. Trained variants are shared and kept, so that a second run is quick.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import time
from typing import Any, Mapping

import bench_tables
import lh_jax
import records
import scales
import trends

# Runnable: the items of the paper it makes. Those that train what others share come first.
EXPERIMENTS = {
  'table1': 'Table 1',
  'table4': 'Table 4, Supp. Table 4',
  'table5b': 'Table 5b',
  'table5d': 'Table 5d',
  'table5a': 'Table 5a',
  'table5c': 'Table 5c',
  'table2': 'Table 2',
  'supp_table1': 'Supp. Table 1',
  'supp_table2': 'Supp. Table 2',
  'supp_table5': 'Supp. Table 5',
  'fig2_latents': 'Fig. 2a to 2c',
  'fig2_finetuning': 'Fig. 2d, 2e',
  'supp_fig4': 'Supp. Fig. 4',
  'supp_fig5': 'Supp. Fig. 5',
  'supp_fig6': 'Supp. Fig. 6',
  'supp_fig7': 'Supp. Fig. 7',
  'user_study': 'Supp. Fig. 3',
}
README = records.HERE / 'README.md'
MARKS = ('<!-- paper: written by run_all.py -->', '<!-- end of paper -->')
BENCH_MARKS = ('<!-- benchmarks: written by run_all.py -->', '<!-- end of benchmarks -->')


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
  """Returns our options, and those that go to the experiments."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--only', nargs='+', choices=tuple(EXPERIMENTS), default=tuple(EXPERIMENTS), metavar='NAME')
  parser.add_argument('--overwrite', action='store_true', help='run again what has a result')
  parser.add_argument('--readme', action='store_true', help='run nothing, write the tables of README.md')
  parser.add_argument('--scale', default='smoke')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('-o', '--output', type=pathlib.Path, default=records.HERE / 'results')
  return parser.parse_known_args(arguments)


def result(folder: pathlib.Path, name: str) -> dict[str, Any] | None:
  """Returns what an experiment has written, or None."""
  path = folder / f'{name}.json'
  return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else None


def run(name: str, options: argparse.Namespace, others: list[str]) -> str:
  """Runs one experiment, unless it has a result; returns what became of it."""
  found = result(options.output, name)
  # Other options, such as --photos, may give another result.
  if found and not others and not options.overwrite:
    provenance = found['provenance']
    wanted = {'scale': options.scale, 'seed': options.seed, 'lh_jax': lh_jax.__version__}
    if wanted.items() <= provenance.items() and provenance['images'] != 'photographs':
      commit = provenance.get('revision')
      changed = commit is None or provenance['dirty'] or records.code_changed_since(commit)
      told = f', but the code is not that of its revision, {commit or "unknown"}: --overwrite runs it again'
      return 'skipped: it has a result' + told * changed
  given = [f'--scale={options.scale}', f'--seed={options.seed}', '-o', str(options.output)]
  print(f'== {name} ({EXPERIMENTS[name]})', flush=True)
  started = time.perf_counter()
  code = subprocess.run([sys.executable, str(records.HERE / f'{name}.py'), *given, *others], check=False).returncode
  return f'{"done" if not code else f"failed with exit code {code}"} in {time.perf_counter() - started:.0f} s'


def row(name: str, items: str, found: Mapping[str, Any] | None, folder: pathlib.Path) -> str:
  """Returns an experiment's row of README.md."""
  if found is None:
    return f'| `{name}.py` | {items} | not run | | | | | |'
  provenance, claims, summary = found['provenance'], found.get('trends'), found.get('summary', {})
  pictures = [path.name for path in sorted(folder.glob(f'{name}.*')) if path.suffix in ('.png', '.jpg')]
  cells = [
    f'`{name}.py`',
    items,
    f'{found.get("status", "ran")}; scale {provenance["scale"]}, {provenance["device"]}',
    *(summary.get(column, '') for column in ('paper', 'ours')),
    trends.count(claims) if claims else '',
    summary.get('why', ''),
    ' '.join(f'[{file}]({folder.name}/{file})' for file in (f'{name}.json', *pictures)),
  ]
  return f'| {" | ".join(cell.replace("|", "/").replace(chr(10), " ") for cell in cells)} |'


def section(folder: pathlib.Path) -> str:
  """Returns the table of all experiments, from their results."""
  used = {found['provenance']['scale'] for name in EXPERIMENTS if (found := result(folder, name))}
  lines = [
    f'Scale {scale}: {scales.describe(scale)}; L_Inv by {scales.foundation(scale)}.\n'
    for scale in scales.SCALES
    if scale in used | {'paper'}
  ]
  lines += [
    '| runnable | item | status | paper | ours | trends that came out | why they differ | result |',
    '|---|---|---|---|---|---|---|---|',
  ]
  return '\n'.join(lines + [row(name, items, result(folder, name), folder) for name, items in EXPERIMENTS.items()])


def main(arguments: list[str] | None = None) -> None:
  """Runs what is asked for, prints what became of it, and exits with 1 where something failed."""
  options, others = parse(arguments)
  outcomes = (
    {} if options.readme else {name: run(name, options, others) for name in EXPERIMENTS if name in options.only}
  )
  if options.output.resolve() == (records.HERE / 'results').resolve():
    records.write_section(README, bench_tables.section(options.output), BENCH_MARKS)
    records.write_section(README, section(options.output), MARKS)
  for name, outcome in outcomes.items():
    print(f'{name:16} {outcome}')
  if any(outcome.startswith('failed') for outcome in outcomes.values()):
    sys.exit(1)


if __name__ == '__main__':
  main()
