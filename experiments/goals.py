"""What a bundled model has to reach, and tables of what it does.

Contract: a row is a flat dict with 'task' and the means '<metric>_<column>' of that task, as `bundled.py` makes them;
the row of the task 'clean' is of photographs that nothing degraded. A goal is a dict {'goal', 'task', 'metric',
'values', 'holds'}, with the numbers that decide it by column; 'holds' is None where a metric was not computed. No
margin is taken off: what is equal is not above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import itertools
from typing import Any

from lh_jax import results

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
JUDGED = (0.5, 1.0)
DEFAULT = 0.5
HEADLINE, PERCEPTUAL = 'psnr_rgb', 'lpips_alex'
CLEAN = 'clean'
CLEAN_LOSS = 0.5  # dB below VAE(clean) that a clean photograph may come out
TITLES = {
  'above_input': 'above the degraded input',
  'above_classical': 'above the best classical method',
  'rises_with_alpha': 'not falling as alpha rises',
  'keeps_clean': f'clean photographs at most {CLEAN_LOSS:g} dB below VAE(clean)',
}


def column(alpha: float) -> str:
  """Returns the column of what is restored with `alpha`."""
  return f'alpha_{alpha:g}'


COLUMNS = ('input', 'classical', 'ceiling', *map(column, ALPHAS))


def _goal(goal: str, row: Mapping[str, Any], metric: str, columns: Sequence[str], slack: float = 0.0) -> dict[str, Any]:
  """Whether the first of two columns is above the second; or with `slack`, not further below it than that."""
  first, second = values = [row.get(f'{metric}_{column}') for column in columns]
  known = first is not None and second is not None
  holds = (first >= second - slack if slack else first > second) if known else None
  return {'goal': goal, 'task': row['task'], 'metric': metric, 'values': dict(zip(columns, values)), 'holds': holds}


def _rises(row: Mapping[str, Any], metric: str) -> dict[str, Any]:
  values = {column(alpha): row.get(f'{metric}_{column(alpha)}') for alpha in ALPHAS}
  pairs = list(itertools.pairwise(values.values()))
  holds = None if None in values.values() else all(before <= after for before, after in pairs)
  return {'goal': 'rises_with_alpha', 'task': row['task'], 'metric': metric, 'values': values, 'holds': holds}


def judged(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Judges every goal.

  Args:
    rows: one for each task, and one for 'clean'.

  Returns:
    The goals: for every task and `JUDGED` alpha, PSNR above the input's and above the best classical method's; for
    every task and for their 'average', PSNR and LPIPS that do not fall as alpha rises (Sec. 3.3: alpha 1 is the most
    faithful, alpha 0 the most perceptual); for clean photographs, PSNR at most `CLEAN_LOSS` below VAE(clean)'s.
  """
  tasks = [row for row in rows if row['task'] != CLEAN]
  average = {'task': 'average', **(results.mean(tasks) if tasks else {})}
  return [
    *(
      _goal(f'above_{other}', row, HEADLINE, (column(alpha), other))
      for other in ('input', 'classical')
      for alpha in JUDGED
      for row in tasks
    ),
    *(_rises(row, metric) for metric in (HEADLINE, PERCEPTUAL) for row in (*tasks, average)),
    *(
      _goal('keeps_clean', row, HEADLINE, (column(alpha), 'ceiling'), CLEAN_LOSS)
      for row in rows
      if row['task'] == CLEAN
      for alpha in JUDGED
    ),
  ]


def summary(goals: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns a line for each kind of goal, metric and alpha: how many hold, and the tasks that miss it."""
  groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
  for goal in goals:
    alpha = '' if goal['goal'] == 'rises_with_alpha' else f', alpha {next(iter(goal["values"])).partition("_")[2]}'
    groups.setdefault((goal['goal'], results.METRICS[goal['metric']][0] + alpha), []).append(goal)
  lines = []
  for (kind, what), found in groups.items():
    missed = [goal['task'] for goal in found if goal['holds'] is False]
    unknown = sum(goal['holds'] is None for goal in found)
    line = f'{what}, {TITLES[kind]}: {sum(goal["holds"] is True for goal in found)} of {len(found) - unknown}'
    lines.append(line + f'; not {", ".join(missed)}' * bool(missed) + f'; {unknown} not computed' * bool(unknown))
  return lines


def _cell(row: Mapping[str, Any], metric: str, name: str) -> str:
  value = row.get(f'{metric}_{name}')
  return '' if value is None else results.shown(metric, float(value))


def _named(row: Mapping[str, Any], unseen: Sequence[str]) -> str:
  return row['task'] + ' (unseen)' * (row['task'] in unseen)


def table(rows: Sequence[Mapping[str, Any]], metric: str, *, unseen: Sequence[str] = ()) -> str:
  """Returns one metric of every task and column as Markdown; `unseen` are the tasks that were not trained on."""
  header = [results.METRICS[metric][0], 'input', 'classical', 'VAE(clean)', *(f'alpha {alpha:g}' for alpha in ALPHAS)]
  return results.markdown(
    header, [[_named(row, unseen), *(_cell(row, metric, name) for name in COLUMNS)] for row in rows]
  )


def compact(rows: Sequence[Mapping[str, Any]], methods: Mapping[str, str], *, unseen: Sequence[str] = ()) -> str:
  """Returns the table of the README: 'input → classical → ours (ceiling)' at the default alpha, row by row.

  Args:
    rows: as for `judged`.
    methods: of every task, its classical method, for people.
    unseen: tasks that were not trained on.
  """

  def cell(row: Mapping[str, Any], metric: str) -> str:
    shown = [_cell(row, metric, name) or '-' for name in ('input', 'classical', column(DEFAULT), 'ceiling')]
    return '{} → {} → {} ({})'.format(*shown) if set(shown) != {'-'} else '-'

  header = ('task', *(results.METRICS[metric][0] for metric in (HEADLINE, PERCEPTUAL)), 'best classical method')
  return results.markdown(
    header,
    [[_named(row, unseen), cell(row, HEADLINE), cell(row, PERCEPTUAL), methods.get(row['task'], '-')] for row in rows],
  )
