"""What the raters of the user study have written: read, and averaged with an interval.

Contract: a score counts for the study that its row names, once for each rater, set and method.
"""

from __future__ import annotations

import csv
import io
import json
import pathlib
import unicodedata
from typing import Any, Mapping, Sequence

from matplotlib.figure import Figure
import numpy as np

import study_page

DRAWS = 10_000


class OtherStudyError(ValueError):
  """Answers belong to another study than the key."""


def read_key(file: pathlib.Path) -> dict[str, Any]:
  """Returns a key that `user_study.export` has written.

  Raises:
    ValueError: the file is none.
    FileNotFoundError: there is no file.
  """
  try:
    key = json.loads(file.read_text(encoding='utf-8'))
    return {'study': key['study'], 'sets': key['sets']}
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{file} is no key of a study: {error!r}') from error


def read_scores(files: Sequence[pathlib.Path], key: Mapping[str, Any]) -> list[tuple[str, str, str, float]]:
  """Reads CSV files of scores and puts methods in the place of letters.

  Args:
    files: CSV files with the columns of `study_page.COLUMNS`.
    key: as `read_key` returns it.

  Returns:
    (rater, set, method, score) of each row; raters without what may differ in typing: case, spaces around, and how
    an accent is encoded.

  Raises:
    OtherStudyError: some belong to another study.
    ValueError: naming every row that cannot be used, or there is none.
  """
  found, problems, others = {}, [], {}
  for file in files:
    try:
      text = file.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
      raise ValueError(f'{file} is not in UTF-8, byte {error.start} cannot be read: save as UTF-8.') from error
    with io.StringIO(text, newline='') as stream:
      reader = csv.DictReader(stream)
      if tuple(reader.fieldnames or ()) != study_page.COLUMNS:
        raise ValueError(f'{file} must have the columns {",".join(study_page.COLUMNS)}, got {reader.fieldnames}.')
      for row in reader:
        rater = unicodedata.normalize('NFC', (row['rater'] or '').strip()).casefold()
        place = f'{file.name}, line {reader.line_num}'
        if row['study'] != key['study']:
          others.setdefault((file, row['study']), f'{place}: study {row["study"]!r}')
          continue
        method = key['sets'].get(row['set'], {}).get('letters', {}).get(row['letter'])
        try:
          score = float(row['score'])
        except (TypeError, ValueError):
          score = float('nan')
        if method is None:
          problems.append(f'{place}: the key has no set {row["set"]!r} with a letter {row["letter"]!r}')
        elif not study_page.LOWEST <= score <= study_page.HIGHEST:
          problems.append(
            f'{place}: score {row["score"]!r} is no number from {study_page.LOWEST:g} to {study_page.HIGHEST:g}'
          )
        elif not rater:
          problems.append(f'{place}: no rater')
        elif (rater, row['set'], method) in found:
          problems.append(f'{place}: {rater} has scored set {row["set"]}, {row["letter"]} before')
        else:
          found[rater, row['set'], method] = score
  if others:
    raise OtherStudyError(
      f'The key is of study {key["study"]!r}; answers of another study, from:\n  ' + '\n  '.join(others.values())
    )
  if problems or not found:
    raise ValueError('Scores that cannot be used:\n  ' + '\n  '.join(problems or ['there is none']))
  return [(*place, score) for place, score in found.items()]


def summarise(
  scores: Sequence[tuple[str, str, str, float]], *, draws: int = DRAWS, seed: int = 0
) -> list[dict[str, Any]]:
  """Mean score and its 95 % interval by method, best first.

  Args:
    scores: (rater, set, method, score); not every rater has to have scored everything.
    draws: of the bootstrap.
    seed: of the bootstrap; all methods meet the same resampled raters and sets.

  Returns:
    One row per method: 'method', 'mean', 'low', 'high', 'scores', 'raters', 'sets'.
  """
  raters, sets, methods = (sorted({score[i] for score in scores}) for i in range(3))
  rng = np.random.default_rng(seed)
  rater_counts, set_counts = (
    rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws).astype(float)
    for names in (raters, sets)
  )
  rows = []
  for method in methods:
    table = np.full((len(raters), len(sets)), np.nan)
    for rater, name, other, score in scores:
      if other == method:
        table[raters.index(rater), sets.index(name)] = score
    given = ~np.isnan(table)
    sums, counts = (
      np.einsum('dr,rs,ds->d', rater_counts, x, set_counts, optimize=True) for x in (np.nan_to_num(table), given * 1.0)
    )
    low, high = np.percentile(sums[counts > 0] / counts[counts > 0], [2.5, 97.5])
    rows.append(
      {
        'method': method,
        'mean': float(table[given].mean()),
        'low': float(low),
        'high': float(high),
        'scores': int(given.sum()),
        'raters': int(given.any(axis=1).sum()),
        'sets': int(given.any(axis=0).sum()),
      }
    )
  return sorted(rows, key=lambda row: -row['mean'])


def verdict(rows: Sequence[Mapping[str, Any]], ours: Sequence[str]) -> dict[str, Any]:
  """The paper's trend: our method has the highest mean score.

  Args:
    rows: as from `summarise`.
    ours: names of our methods; the first one is what the claim is about, the others are not compared with it.

  Returns:
    As `trends.higher`; it cannot be told of equal means, of overlapping intervals, or without another method.
  """
  by_name = {row['method']: row for row in rows}
  mine = by_name.get(ours[0])
  rival = max((row for row in rows if row['method'] not in ours), key=lambda row: row['mean'], default=None)
  if mine is None or rival is None:
    holds, why = None, f'no scores of {ours[0]}' if mine is None else 'no other method takes part (--method)'
  elif mine['mean'] == rival['mean'] or max(mine['low'], rival['low']) <= min(mine['high'], rival['high']):
    holds, why = None, f'the intervals of {ours[0]} and {rival["method"]} overlap'
  else:
    holds = mine['mean'] > rival['mean']
    why = '' if holds else f'the raters prefer {rival["method"]}'
  means = {row['method']: row['mean'] for row in rows}
  claim = f'{ours[0]} has the highest mean score'
  return {'claim': claim, 'metric': 'mean', 'values': means, 'holds': holds, 'why': why}


def picture(rows: Sequence[Mapping[str, Any]]) -> Figure:
  """Mean scores with their intervals."""
  figure = Figure(figsize=(1.5 + len(rows), 3), layout='constrained')
  ax = figure.subplots()
  means = np.array([row['mean'] for row in rows])
  ends = np.array([[row['mean'] - row['low'], row['high'] - row['mean']] for row in rows]).T
  ax.bar([row['method'] for row in rows], means, yerr=np.maximum(ends, 0.0), capsize=4)
  ax.set(ylabel='mean score', ylim=(study_page.LOWEST, study_page.HIGHEST))
  ax.tick_params(axis='x', labelrotation=20, labelsize=7)
  return figure
