"""Supp. Fig. 3: the user study, as an export of anonymous images and an aggregator of the scores that come back.

    python experiments/user_study.py --scale=smoke                                    # writes study and key
    python experiments/user_study.py --scale=paper --method UHDprocesser=DIR          # beside another method's results
    python experiments/user_study.py --scores SCORES.csv --key KEY.json               # reads what the raters wrote

Export: one folder per test image, its degraded input and every method's result as A.png, B.png, ..., in an order drawn
anew for each image, and a page, study.html, on which a rater gives each result 1 to 10 points and saves a CSV file. Who
is who stands only in the key file, outside the study's folder. Other methods join with `--method NAME=DIR`, where DIR
holds their results under the names of the degraded images that are written to inputs/ beside the key.

Aggregation: mean score of each method with a 95 % bootstrap interval. Raters and images are both resampled (Owen, "The
pigeonhole bootstrap", Annals of Applied Statistics 2007): few of either make the interval wide.

Paper's claim: 20 volunteers give the paper's method the highest mean score (numbers only as bars). Without raters there
is no score, and none is made up: the export's result says 'waiting for raters'.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import json
import pathlib
import string
from typing import Any, Mapping, Sequence

from matplotlib.figure import Figure
import numpy as np

from lh_jax.data import image_files
import runs
import study_page
import trained

DRAWS = 10_000
OURS = 'LH'
ALPHAS = {OURS: 0.5, 'LH, faithful end': 1.0, 'LH, perceptual end': 0.0}


@dataclasses.dataclass(frozen=True)
class Entry:
  """One question of the study.

  Attributes:
    name: of the degraded image, for the key.
    degraded: (H, W, 3) uint8.
    results: {method: (H, W, 3) uint8}.
  """

  name: str
  degraded: np.ndarray
  results: Mapping[str, np.ndarray]


def export(entries: Sequence[Entry], folder: pathlib.Path, key_file: pathlib.Path, *, seed: int = 0) -> dict[str, Any]:
  """Writes the study's folder and its key.

  Args:
    entries: the questions; every one with the same methods, up to 26.
    folder: for the raters; if it exists, it must be this very study.
    key_file: for the evaluator; must lie elsewhere.
    seed: decides the order of the questions and of the methods within each.

  Returns:
    The key: {set: {'image', 'letters': {letter: method}}}.

  Raises:
    ValueError: methods differ or are fewer than two or more than letters, or the key would lie in the folder.
    FileExistsError: the folder exists and the key is another one.
  """
  methods = sorted(entries[0].results) if entries else []
  if not 2 <= len(methods) <= len(string.ascii_uppercase):
    raise ValueError(f'A study compares 2 to 26 methods, got {methods}.')
  if any(sorted(entry.results) != methods for entry in entries):
    raise ValueError(f'Every image needs a result of every method; the first one has {methods}.')
  if folder.resolve() in key_file.resolve().parents:
    raise ValueError(f'The key {key_file} would lie in the folder that the raters see, {folder}: put it elsewhere.')
  rng = np.random.default_rng(seed)
  key, questions = {}, {f'{index + 1:03d}': entries[i] for index, i in enumerate(rng.permutation(len(entries)))}
  for name, entry in questions.items():
    letters = dict(zip(string.ascii_uppercase, (methods[i] for i in rng.permutation(len(methods)))))
    key[name] = {'image': entry.name, 'letters': letters}
  text = json.dumps(key, indent=1) + '\n'
  if folder.exists() and not (key_file.is_file() and key_file.read_text(encoding='utf-8') == text):
    raise FileExistsError(f'{folder} holds another study, which raters may have seen: take another --seed or --runs.')
  for name, entry in questions.items():
    (folder / name).mkdir(parents=True, exist_ok=True)
    image_files.write_image(folder / name / 'input.png', entry.degraded)
    for letter, method in key[name]['letters'].items():
      image_files.write_image(folder / name / f'{letter}.png', entry.results[method])
  (folder / 'study.html').write_text(study_page.page(key), encoding='utf-8')
  key_file.parent.mkdir(parents=True, exist_ok=True)
  key_file.write_text(text, encoding='utf-8')
  return key


def read_scores(files: Sequence[pathlib.Path], key: Mapping[str, Any]) -> list[tuple[str, str, str, float]]:
  """Reads CSV files of scores and puts methods in the place of letters.

  Args:
    files: CSV files with the columns of `study_page.COLUMNS`.
    key: as `export` returns it.

  Returns:
    (rater, set, method, score) of each row.

  Raises:
    ValueError: naming every row that cannot be used, or there is none.
  """
  found, problems = {}, []
  for file in files:
    with file.open(newline='', encoding='utf-8-sig') as stream:
      reader = csv.DictReader(stream)
      if tuple(reader.fieldnames or ()) != study_page.COLUMNS:
        raise ValueError(f'{file} must have the columns {",".join(study_page.COLUMNS)}, got {reader.fieldnames}.')
      for row in reader:
        place = f'{file.name}, line {reader.line_num}'
        method = key.get(row['set'], {}).get('letters', {}).get(row['letter'])
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
        elif not (row['rater'] or '').strip():
          problems.append(f'{place}: no rater')
        elif (row['rater'], row['set'], method) in found:
          problems.append(f'{place}: {row["rater"]} has scored set {row["set"]}, {row["letter"]} before')
        else:
          found[row['rater'], row['set'], method] = score
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


def parse_method(text: str) -> tuple[str, pathlib.Path]:
  """'NAME=DIR' -> (NAME, DIR)."""
  name, separator, folder = text.partition('=')
  if not (name and separator and folder):
    raise argparse.ArgumentTypeError(f'{text!r} names no method and folder; give NAME=DIR')
  return name, pathlib.Path(folder)


def collect(options: argparse.Namespace, inputs: pathlib.Path) -> list[Entry]:
  """Restores the test images with our model and reads the other methods' results.

  Args:
    options: of `runs.parser` with `method`, the pairs of `parse_method`.
    inputs: where the degraded images are written for other methods.

  Raises:
    FileNotFoundError: another method lacks a result; names them all.
  """
  model, clean = trained.load('full', options), trained.crops(options)
  degraded = trained.degraded(clean, options)
  entries, missing = [], []
  inputs.mkdir(parents=True, exist_ok=True)
  # Every crop under one degradation, the degradations in turns.
  for index, task in zip(range(len(clean)), itertools.cycle(degraded)):
    image = degraded[task][index]
    results = {method: model.restore(image[None], alpha=alpha)[0] for method, alpha in ALPHAS.items()}
    entry = Entry(f'crop{index}_{task}', image, results)
    image_files.write_image(inputs / f'{entry.name}.png', entry.degraded)
    for method, folder in options.method:
      if (folder / f'{entry.name}.png').is_file():
        results[method] = image_files.read_rgb(folder / f'{entry.name}.png')
      else:
        missing.append(f'{method}: {folder / entry.name}.png')
    entries.append(entry)
  if missing:
    raise FileNotFoundError(
      f'Results are missing (restore the images in {inputs} under the same names):\n  ' + '\n  '.join(missing)
    )
  return entries


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


def sheet(entry: Entry) -> Figure:
  """One question, as a rater sees it."""
  shown = [entry.degraded, *entry.results.values()]
  titles = ['degraded', *string.ascii_uppercase[: len(entry.results)]]
  figure = Figure(figsize=(2.4 * len(shown), 2.2), layout='constrained')
  axes = figure.subplots(1, len(shown))
  for ax, title, image in zip(axes, titles, shown):
    ax.imshow(image)
    ax.set_title(title)
    ax.axis('off')
  return figure


def main(arguments: list[str] | None = None) -> None:
  """Exports a study, or aggregates its scores."""
  parser = runs.parser(__doc__)
  parser.add_argument('--method', action='append', default=[], type=parse_method, help="NAME=DIR, another's results")
  parser.add_argument('--scores', nargs='+', default=[], type=pathlib.Path, help='CSV files of the raters')
  parser.add_argument('--key', type=pathlib.Path, help='the key file of the export; needed with --scores')
  options = parser.parse_args(arguments)
  if options.scores:
    if options.key is None:
      parser.error('--scores needs --key, the key file of the export')
    rows = summarise(read_scores(options.scores, json.loads(options.key.read_text())), seed=options.seed)
    claim = {'claim': f'{OURS} has the highest mean score', 'metric': 'mean', 'holds': rows[0]['method'] == OURS}
    claim['values'] = {row['method']: row['mean'] for row in rows}
    runs.write(options, 'user_study_scores', {'rows': rows, 'trends': [claim]}, picture(rows))
    return
  root = options.runs / options.scale / 'user_study'
  entries = collect(options, root / 'inputs')
  folder = root / f'study_seed{options.seed}'
  key = export(entries, folder, root / f'key_seed{options.seed}.json', seed=options.seed)
  result = {
    'status': 'waiting for raters: no score was given yet, and none is made up',
    'sets': len(key),
    'methods': sorted(entries[0].results),
    'summary': {
      'item': 'Supp. Fig. 3',
      'paper': 'highest mean score, 20 raters',
      'ours': f'{len(key)} sets exported',
      'why': 'no raters yet',
    },
  }
  runs.write(options, 'user_study', result, trained.rasterise(sheet(entries[0])))


if __name__ == '__main__':
  runs.run(main)
