"""Supp. Fig. 3: the user study, as an export of anonymous images and an aggregator of the scores that come back.

    python experiments/user_study.py --scale=smoke                                    # writes study and key
    python experiments/user_study.py --scale=paper --method UHDprocesser=DIR          # beside another method's results
    python experiments/user_study.py --scores SCORES.csv --key KEY.json               # reads what the raters wrote

Export: one folder per test image, its degraded input and every method's result as A.png, B.png, ..., in an order drawn
anew for each image, and a page, study.html, on which a rater gives each result 1 to 10 points and saves a CSV file. Who
is who stands only in the key file, beside the study's folder. Other methods join with `--method NAME=DIR`, where DIR
holds their results under the names of the degraded images that are written to inputs_seed<SEED>/ beside the key.

A study is named after its seed, its methods and all of its pixels: another method, or another image of one, makes
another study. Answers carry the name, and are never mixed.

Aggregation: mean score of each method with a 95 % bootstrap interval. Raters and images are both resampled (Owen, "The
pigeonhole bootstrap", Annals of Applied Statistics 2007): few of either make the interval wide.

Paper's claim: 20 volunteers give the paper's method the highest mean score (numbers only as bars). Without raters there
is no score, and none is made up: the export's result says 'waiting for raters'.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import pathlib
import string
from typing import Any, Mapping, Sequence

from matplotlib.figure import Figure
import numpy as np

from lh_jax import results as results_lib
from lh_jax.data import image_files
import runs
import study_page
import study_scores
import trained

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


def study_name(entries: Sequence[Entry], *, seed: int) -> str:
  """Returns the name of a study, a function of its seed, its methods and its images; their order does not matter."""
  images = [(entry.name, *named) for entry in entries for named in [('', entry.degraded), *entry.results.items()]]
  hashes = [
    (name, method, pixels.shape, hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest())
    for name, method, pixels in images
  ]
  return f'seed{seed}_{results_lib.list_hash(hashes)[:8]}'


def export(entries: Sequence[Entry], root: pathlib.Path, *, seed: int = 0) -> dict[str, Any]:
  """Writes root/study_NAME, for the raters, and root/key_NAME.json, for the evaluator.

  Args:
    entries: the questions; every one with the same methods, up to 26.
    root: holds any number of studies.
    seed: decides the order of the questions and of the methods within each.

  Returns:
    The key: {'study': NAME, 'sets': {set: {'image', 'letters': {letter: method}}}}.

  Raises:
    ValueError: methods differ or are fewer than two or more than letters.
    FileExistsError: the study's folder exists without this key.
  """
  methods = sorted(entries[0].results) if entries else []
  if not 2 <= len(methods) <= len(string.ascii_uppercase):
    raise ValueError(f'A study compares 2 to 26 methods, got {methods}.')
  if any(sorted(entry.results) != methods for entry in entries):
    raise ValueError(f'Every image needs a result of every method; the first one has {methods}.')
  study, entries = study_name(entries, seed=seed), sorted(entries, key=lambda entry: entry.name)
  rng = np.random.default_rng(seed)
  questions = {f'{index + 1:03d}': entries[i] for index, i in enumerate(rng.permutation(len(entries)))}
  sets = {}
  for name, entry in questions.items():
    letters = dict(zip(string.ascii_uppercase, (methods[i] for i in rng.permutation(len(methods)))))
    sets[name] = {'image': entry.name, 'letters': letters}
  key = {'study': study, 'sets': sets}
  folder, key_file, text = root / f'study_{study}', root / f'key_{study}.json', json.dumps(key, indent=1) + '\n'
  if folder.exists() and not (key_file.is_file() and key_file.read_text(encoding='utf-8') == text):
    raise FileExistsError(
      f'{folder} exists, and raters may have seen it, but {key_file} is missing or another key: put its key back, or '
      'take another --seed.'
    )
  root.mkdir(parents=True, exist_ok=True)
  key_file.write_text(text, encoding='utf-8')
  for name, entry in questions.items():
    image_files.write_image(folder / name / 'input.png', entry.degraded)
    for letter, method in sets[name]['letters'].items():
      image_files.write_image(folder / name / f'{letter}.png', entry.results[method])
  (folder / 'study.html').write_text(study_page.page(key), encoding='utf-8')
  return key


def parse_method(text: str) -> tuple[str, pathlib.Path]:
  """'NAME=DIR' -> (NAME, DIR)."""
  name, separator, folder = text.partition('=')
  if not (name and separator and folder):
    raise argparse.ArgumentTypeError(f'{text!r} names no method and folder; give NAME=DIR')
  return name, pathlib.Path(folder)


def read_results(
  methods: Sequence[tuple[str, pathlib.Path]], degraded: Mapping[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
  """Reads the other methods' results, upright by their EXIF orientation, as 8 bits.

  Args:
    methods: (name, folder), the pairs of `parse_method`.
    degraded: {image: (H, W, 3)}, whose names and sizes the results must have.

  Returns:
    {image: {method: (H, W, 3) uint8}}.

  Raises:
    ValueError: naming all that is wrong: names of methods given twice; results that are missing, cannot be read or have
      another size.
  """
  names = [*ALPHAS, *(method for method, _ in methods)]
  counts = {name: names.count(name) for name in names}
  problems = [f'the name {name!r} stands for {count} methods' for name, count in counts.items() if count > 1]
  found: dict[str, dict[str, np.ndarray]] = {name: {} for name in degraded}
  for (method, folder), (name, reference) in itertools.product(methods, degraded.items()):
    try:
      pixels = image_files.to_uint8(image_files.read_rgb(folder / f'{name}.png'))
    except (ValueError, OSError) as error:
      problems.append(f'{method}: {error}')
      continue
    if pixels.shape != reference.shape:
      sizes = [f'{image.shape[1]}x{image.shape[0]}' for image in (pixels, reference)]
      problems.append(f'{method}: {folder / name}.png has {sizes[0]} pixels, its input {sizes[1]}')
    found[name][method] = pixels
  if problems:
    raise ValueError('Results of other methods cannot be used:\n  ' + '\n  '.join(problems))
  return found


def collect(options: argparse.Namespace, inputs: pathlib.Path) -> list[Entry]:
  """Writes the degraded images for other methods, reads what these have made of them, and restores them with our model.

  Args:
    options: of `runs.parser` with `method`, the pairs of `parse_method`.
    inputs: where the degraded images are written.

  Raises:
    ValueError: as `read_results`, before anything is trained.
  """
  clean = trained.crops(options, count=options.sets)
  # Every crop under one degradation, the degradations in turns.
  turns = zip(range(len(clean)), itertools.cycle(trained.degraded(clean, options).items()))
  degraded = {f'crop{index}_{task}': images[index] for index, (task, images) in turns}
  for name, image in degraded.items():
    image_files.write_image(inputs / f'{name}.png', image)
  others = read_results(options.method, degraded)
  model = trained.load('full', options)
  return [
    Entry(name, image, {m: model.restore(image[None], alpha=a)[0] for m, a in ALPHAS.items()} | others[name])
    for name, image in degraded.items()
  ]


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
  parser.add_argument('--sets', type=int, help='how many degraded crops the study shows; default: all of the scale')
  parser.add_argument('--scores', nargs='+', default=[], type=pathlib.Path, help='CSV files of the raters')
  parser.add_argument('--key', type=pathlib.Path, help='the key file of the export; needed with --scores')
  options = parser.parse_args(arguments)
  if options.scores:
    if options.key is None:
      parser.error('--scores needs --key, the key file of the export')
    key = study_scores.read_key(options.key)
    rows = study_scores.summarise(study_scores.read_scores(options.scores, key), seed=options.seed)
    found = {'study': key['study'], 'rows': rows, 'trends': [study_scores.verdict(rows, list(ALPHAS))]}
    runs.write(options, 'user_study_scores', found, study_scores.picture(rows))
    return
  root = options.runs / options.scale / 'user_study'
  entries = collect(options, root / f'inputs_seed{options.seed}')
  key = export(entries, root, seed=options.seed)
  result = {
    'status': 'waiting for raters: no score was given yet, and none is made up',
    'study': key['study'],
    'sets': len(key['sets']),
    'methods': sorted(entries[0].results),
    'summary': {
      'item': 'Supp. Fig. 3',
      'paper': 'highest mean score, 20 raters',
      'ours': f'{len(key["sets"])} sets exported',
      'why': 'no raters yet',
    },
  }
  runs.write(options, 'user_study', result, trained.rasterise(sheet(entries[0])))


if __name__ == '__main__':
  runs.run(main)
