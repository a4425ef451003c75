"""Supp. Table 1: how many images the data sets have.

  python experiments/supp_table1.py
  python experiments/supp_table1.py --data=DATA

With --data, counts what lies there (`python -m lh_jax.data check` says more about each set); without it, the paper's
and the publishers' counts stand beside each other, which disagree for UHD-LL, UHD-Rain and UHD-Snow.
"""

from __future__ import annotations

import pathlib
from typing import Any, Mapping, Sequence

from matplotlib.figure import Figure

from lh_jax.data import datasets
from lh_jax.data import layouts
import runs


def main(arguments: list[str] | None = None) -> None:
  """Counts and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  rows = []
  for told in runs.published('supp_table1')['rows']:
    dataset = datasets.find(told['dataset'])
    row = {'dataset': dataset.title, 'name': dataset.name, 'task': told['task']}
    for split in datasets.PUBLISHED_SPLITS:
      others = [f'{getattr(count, split)} ({count.by})' for count in dataset.counts if count.by != 'the paper']
      row |= {f'{split}, paper': told[split], f'{split}, elsewhere': ', '.join(others)}
      row[f'{split}, found'] = found(options.data, dataset, split)
    rows.append(row)
  counted = [row for row in rows if isinstance(row['test, found'], int)]
  differ = [
    row['dataset']
    for row in rows
    if any(row[f'{split}, found'] not in (row[f'{split}, paper'], None) for split in datasets.PUBLISHED_SPLITS)
  ]
  summary = {
    'item': 'Supp. Table 1',
    'paper': ', '.join(f'{row["dataset"]} {row["train, paper"]}/{row["test, paper"]}' for row in rows),
    'ours': f'{len(counted)} of {len(rows)} sets counted' if options.data else 'no data set at hand (--data)',
    'why': f'counts differ: {", ".join(differ)}' if differ else '',
  }
  result = {'rows': rows, 'summary': summary} | ({} if options.data else {'status': 'needs --data'})
  runs.write(options, 'supp_table1', result, picture(rows))


def picture(rows: Sequence[Mapping[str, Any]]) -> Figure:
  """Training and test images of every set: the paper's number, those of others, and what was found."""
  figure = Figure(figsize=(8, 3), layout='constrained')
  for ax, split in zip(figure.subplots(1, 2), datasets.PUBLISHED_SPLITS):
    for place, row in enumerate(rows):
      others = {getattr(count, split) for count in datasets.find(row['name']).counts if count.by != 'the paper'}
      ax.barh(place, row[f'{split}, paper'], color='lightgrey', label='paper')
      ax.plot(sorted(others), [place] * len(others), 'o', color='black', markersize=4, label='elsewhere')
      if isinstance(row[f'{split}, found'], int):
        ax.plot(row[f'{split}, found'], place, 'x', color='red', label='found')
    ax.set(title={'train': 'training images', 'test': 'test images'}[split])
    ax.set_yticks(range(len(rows)), [row['dataset'] for row in rows])
  handles, labels = ax.get_legend_handles_labels()
  known = dict(zip(labels, handles))
  figure.legend(known.values(), known.keys(), loc='outside lower center', ncols=3)
  return figure


def found(root: pathlib.Path | None, dataset: datasets.Dataset, split: str) -> int | str | None:
  """Returns the number of images of a split below `root`, what is wrong with it, or None without a root."""
  if root is None:
    return None
  folder = next((root / name for name in (dataset.name, dataset.title) if (root / name).is_dir()), None)
  if folder is None:
    return 'missing'
  scanned = layouts.scan(folder, dataset, split)
  return f'{len(scanned.problems)} problem(s)' if scanned.problems else len(scanned.items)


if __name__ == '__main__':
  runs.run(main)
