"""The bundled weights, or another model, against classical methods and against the goals that it has to reach.

  python experiments/bundled.py --photographs val=PHOTOGRAPHS --train TRAINING_PHOTOGRAPHS -o experiments/results/bundled.json
  python experiments/bundled.py --checkpoint runs/mine --label 'wider restorer' --note 'blur gains, haze does not'
  python experiments/bundled.py --picture experiments/results/bundled.jpg
  python experiments/bundled.py --readme                                  # only the tables in the READMEs

Photographs are degraded by `lh_jax.synthesis`: name, task and seed decide every random number. Beside the input stand
VAE(clean), the ceiling that the latent sets; the best classical method, chosen on training photographs (`tuning.py`),
which must not be among those judged; and the model at five alphas. Scikit-image's test photograph is always judged.

The result is a file that grows: 'references' (scores of inputs and classical methods) and 'tuning' are computed again
only where what decides them has changed, and every model tried is an entry of 'tries', with the goals that it reached
and missed (`goals.py`). experiments/README.md shows the last entry, README.md and the model card the bundled
weights'. Means are over images.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import logging
import pathlib
import time
from typing import Any

import numpy as np

import lh_jax
from lh_jax import evaluate
from lh_jax import exports
from lh_jax import logs
from lh_jax import measure as measure_lib
from lh_jax import parallel
from lh_jax import protocols
from lh_jax import results
from lh_jax import synthesis
from lh_jax.data import figures
from lh_jax.data import sources
from lh_jax.data.items import Source
from lh_jax.ops import degradations
import classical
import goals
import records
import runs
import tuning

README = runs.ROOT / 'README.md'
TRIES = runs.ROOT / 'experiments' / 'README.md'
MARKS = ('<!-- bundled: written by bundled.py --readme -->', '<!-- end of bundled -->')
EMBEDDED, ALL = 'embedded', 'all'  # sets: scikit-image's photograph, and every photograph
UNSEEN = ('moire',)  # configs/bundled.py trains on the others
# PSNR and SSIM of Y and RGB as scikit-image has them; LPIPS by one network.
PROTOCOL = dataclasses.replace(protocols.get('rgb'), lpips=('alex',))
# What decides degraded images, classical methods and scores.
CODE = (
  'lh_jax/ops',
  'lh_jax/synthesis',
  'lh_jax/metrics',
  'lh_jax/measure.py',
  'lh_jax/models/lpips.py',
  'experiments/classical.py',
)
LIBRARIES = ('jax', 'numpy', 'scipy', 'scikit-image')
PICTURE = (224, 160)  # width and height of what is shown of the embedded photograph
log = logging.getLogger('lh_jax')


def parser() -> argparse.ArgumentParser:
  """Returns the options."""
  found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  add = found.add_argument
  add('--checkpoint', type=pathlib.Path, help='work directory or export to judge; default: the bundled weights')
  add('--label', help='names the model in the result; default: "bundled", or the name of the checkpoint')
  add('--note', default='', help='what to say of the model in the result')
  add('--photographs', nargs='+', default=[], metavar='NAME=FOLDER', help='sets of photographs to judge on')
  add('--train', type=pathlib.Path, help='training photographs to tune on; default: those of scikit-image')
  add('--train-images', type=int, default=12, help='how many of them')
  add('--tune', action='store_true', help='tune classical methods again')
  add('--tasks', nargs='+', choices=degradations.BENCHMARK, default=degradations.BENCHMARK, metavar='TASK')
  add('--unseen', nargs='*', default=UNSEEN, metavar='TASK', help='tasks that the model was not trained on')
  add('--crop', type=int, default=1024, help='side of the middles that are judged; 0 takes whole images')
  add('--severity', type=float, default=0.5, help='of the degradations')
  add('--seed', type=int, default=0, help='of the degradations')
  add('--picture', type=pathlib.Path, help='draw the embedded photograph into this JPEG file')
  add('--readme', action='store_true', help='compute nothing; write the tables of OUTPUT to the READMEs')
  add('-o', '--output', type=pathlib.Path, default=records.HERE / 'results' / 'bundled.json')
  return found


def sets(options: argparse.Namespace) -> dict[str, Source]:
  """Returns the photographs to judge on, by set.

  Raises:
    ValueError: a set is not NAME=FOLDER, or its name is taken; or as `sources.folder`.
  """
  found = {}
  for given in options.photographs:
    name, _, folder = given.partition('=')
    if not name or not folder or name in (EMBEDDED, ALL, *found):
      raise ValueError(f'--photographs takes NAME=FOLDER with names of their own, not {given!r}; {EMBEDDED} is there.')
    found[name] = sources.folder(folder)
  return {**found, EMBEDDED: sources.embedded(split='test')}


def weights_hash(checkpoint: pathlib.Path | None) -> str:
  """Returns the SHA-256 of a model's file; of the bundled weights for None.

  Raises:
    FileNotFoundError: there is none.
  """
  return results.file_hash(exports.find(checkpoint or exports.BUNDLED) / 'params.safetensors')


def decided_by(options: argparse.Namespace, source: Source, **more: Any) -> dict[str, Any]:
  """Returns what decides the degraded images of a set, and what classical methods make of them; as strict JSON."""
  files = [file for place in CODE for file in [runs.ROOT / place, *(runs.ROOT / place).rglob('*.py')] if file.is_file()]
  hashes = [(file.relative_to(runs.ROOT).as_posix(), results.file_hash(file)) for file in files]
  versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
  key = {'listing': evaluate.listing(source)['sha256'], 'severity': options.severity, 'seed': options.seed}
  return results.strict({**key, 'code': results.list_hash(hashes), 'versions': versions, **more})


def tune(options: argparse.Namespace, report: dict[str, Any]) -> dict[str, Any]:
  """Returns the best classical method of every task, of `report` where what decides it is the same.

  Without training photographs at hand (--train), what was chosen on others stands.
  """
  source = sources.folder(options.train) if options.train else sources.embedded(split='train')
  tried = {'grids': results.file_hash(pathlib.Path(tuning.__file__)), 'not_tried': classical.missing()}
  key = decided_by(options, source, images=options.train_images, **tried)
  cached = report.get('tuning', {'key': {}, 'tasks': {}})
  complete = not options.train and set(options.tasks) <= cached['tasks'].keys()
  free = ('listing', 'images') if complete else ()
  if options.tune or any(cached['key'].get(name) != value for name, value in key.items() if name not in free):
    cached = {'key': key, 'tasks': {}}
  report['tuning'], known = cached, cached['tasks']
  for task in (task for task in options.tasks if task not in known):
    settings = {'count': options.train_images, 'severity': options.severity, 'seed': options.seed}
    known[task] = tuning.best(task, list(tuning.pairs(source, task, **settings)))
    results.write_json(options.output, report, indent=1)
    log.info('%s: %s, %.2f dB.', task, tuning.label(known[task]['steps']), known[task]['psnr_rgb'])
  return known


class References:
  """Scores of inputs and of classical methods, by set, photograph and task; those of the report are used again."""

  def __init__(self, report: dict[str, Any], measure: measure_lib.Measure, tuned: dict[str, Any]):
    self._kept, self._measure, self._tuned = report.setdefault('references', {}), measure, tuned

  def begin(self, name: str, key: dict[str, Any]) -> None:
    """Forgets the scores of a set that something else has decided."""
    if self._kept.get(name, {}).get('key') != key:
      self._kept[name] = {'key': key, 'images': {}}

  def scores(self, name: str, image: str, task: str, degraded: np.ndarray, clean: np.ndarray) -> dict[str, Any]:
    """Returns {'input': scores, 'classical': scores} of one degraded photograph."""
    steps, kept = self._tuned[task]['steps'], self._kept[name]['images'].setdefault(image, {})
    if task not in kept or kept[task]['steps'] != steps:
      found = self._measure.score(classical.apply(steps, degraded), clean)
      kept[task] = {'steps': steps, 'input': self._measure.score(degraded, clean), 'classical': found}
    # An infinite PSNR is a word in the file.
    return {
      column: {metric: float(value) for metric, value in kept[task][column].items()}
      for column in ('input', 'classical')
    }


def score(
  options: argparse.Namespace,
  model: lh_jax.Restorer,
  measure: measure_lib.Measure,
  references: References,
  photograph: dict[str, Any],
  of_set: str,
) -> list[dict[str, Any]]:
  """Returns the scores of one photograph: a flat dict for 'clean' and for every task."""
  clean, name = photograph['clean'], photograph['name']
  ceiling, found = measure.score(model.reconstruct(clean), clean), []
  for task in (goals.CLEAN, *options.tasks):
    columns = {'ceiling': ceiling}
    degraded = clean
    if task != goals.CLEAN:
      degraded = synthesis.synthesise(clean, name=name, task=task, severity=options.severity, seed=options.seed)
      columns |= references.scores(of_set, name, task, degraded, clean)
    for alpha, restored in zip(goals.ALPHAS, model.sweep(degraded, goals.ALPHAS)):
      columns[goals.column(alpha)] = measure.score(restored.image, clean)
    flat = {f'{metric}_{column}': value for column, values in columns.items() for metric, value in values.items()}
    found.append({'set': of_set, 'task': task, 'name': name, **flat})
  return found


def picture(options: argparse.Namespace, model: lh_jax.Restorer, tuned: dict[str, Any]) -> np.ndarray:
  """Draws the middle of the embedded photograph, one row for each task."""
  (item,) = sources.embedded(split='test')
  clean, rows = synthesis.crop(item['clean'], (options.crop, options.crop) if options.crop else None), []
  ceiling = model.reconstruct(clean)
  for task in options.tasks:
    settings = {'name': item['name'], 'task': task, 'severity': options.severity, 'seed': options.seed}
    degraded = synthesis.synthesise(clean, **settings)
    steps = tuned[task]['steps']
    restored = model.restore(degraded, alpha=goals.DEFAULT)
    images = (degraded, classical.apply(steps, degraded), restored, ceiling, clean)
    shown = tuple(synthesis.crop(image, PICTURE) for image in images)
    rows.append(figures.Row(title=task, images=shown, note=f'classical: {tuning.label(steps)}'))
  titles = ('input', 'classical', f'ours, alpha {goals.DEFAULT:g}', 'VAE(clean)', 'clean')
  return figures.grid(rows, titles=titles)


def pages(report: dict[str, Any]) -> dict[pathlib.Path, str]:
  """Returns what the READMEs say: that of the experiments of the last model tried, the others of the bundled weights.

  Raises:
    ValueError: no model was tried, or not the bundled weights.
  """
  if not report.get('tries'):
    raise ValueError('The result holds no try: judge a model first.')
  methods = {task: tuning.label(found['steps']) for task, found in report['tuning']['tasks'].items()}

  def parts(tried: dict[str, Any]) -> tuple[str, list[str], str]:
    """The table in short, a table for each metric, and the goals."""
    rows, unseen = [row for row in tried['rows'] if row['set'] == ALL], tried['unseen']
    metrics = [metric for metric in results.METRICS if any(f'{metric}_{goals.column(1)}' in row for row in rows)]
    tables = [goals.table(rows, metric, unseen=unseen) for metric in metrics]
    reached = ''.join(f'- {line}\n' for line in goals.summary(tried['goals']))
    return goals.compact(rows, methods, unseen=unseen), tables, reached

  short, _, reached = parts(report['tries'][-1])
  found = {TRIES: f'{short}\n{reached}'}
  if (exports.BUNDLED / 'params.safetensors').is_file():
    bundled = [tried for tried in report['tries'] if tried['sha256'] == weights_hash(None)]
    if not bundled:
      raise ValueError('The result holds no try of the bundled weights: judge them first.')
    short, tables, reached = parts(bundled[-1])
    found |= {README: short, exports.BUNDLED / 'README.md': '\n'.join((*tables, reached))}
  return found


def judge(options: argparse.Namespace, report: dict[str, Any]) -> dict[str, Any]:
  """Tunes, scores, draws, and returns the entry of this model, which it adds to the report."""
  started = time.perf_counter()
  photographs = sets(options)
  model, sha256 = lh_jax.Restorer.from_pretrained(options.checkpoint), weights_hash(options.checkpoint)
  measure = measure_lib.Measure.load(PROTOCOL)
  tuned = tune(options, report)
  references, scores = References(report, measure, tuned), []
  size = (options.crop, options.crop) if options.crop else None
  for of_set, source in photographs.items():
    references.begin(of_set, decided_by(options, source, crop=options.crop, measured=measure.provenance))
    for index in range(len(source)):
      item = source[index]
      found = score(options, model, measure, references, {**item, 'clean': synthesis.crop(item['clean'], size)}, of_set)
      scores += found
      results.write_json(options.output, report, indent=1)
      log.info('%s of %s: %.0f s so far.', item['name'], of_set, time.perf_counter() - started)
  rows = results.by_task([{**row, 'set': ALL} for row in scores]) + results.by_task(scores)
  overall = [row for row in rows if row['set'] == ALL]
  if options.picture:
    records.write_picture(options.picture, picture(options, model, tuned))
  settings = {name: getattr(options, name) for name in ('crop', 'severity', 'seed')}
  tried = {
    'label': options.label or (options.checkpoint.name if options.checkpoint else 'bundled'),
    'sha256': sha256,
    'note': options.note,
    'unseen': list(options.unseen),
    'goals': goals.judged(overall),
    'rows': rows,
    **settings,
    'sets': {name: evaluate.listing(source) for name, source in photographs.items()},
    **measure.provenance,
    'made_by': records.made_by(),
    'seconds': round(time.perf_counter() - started, 1),
  }
  same = ('label', 'sha256')
  others = [one for one in report.get('tries', []) if any(one[name] != tried[name] for name in same)]
  report['tries'] = [*others, tried]
  results.write_json(options.output, report, indent=1)
  for metric in (goals.HEADLINE, goals.PERCEPTUAL):
    print(goals.table(overall, metric, unseen=options.unseen))
  print('\n'.join(goals.summary(tried['goals'])))
  return tried


def main(arguments: list[str] | None = None) -> None:
  """Judges a model, or writes the tables of the READMEs."""
  options = parser().parse_args(arguments)
  report = json.loads(options.output.read_text(encoding='utf-8')) if options.output.is_file() else {}
  if options.readme:
    for file, text in pages(report).items():
      records.write_section(file, text, MARKS)
    return
  logs.to_console()
  parallel.enable_compilation_cache()
  judge(options, report)


if __name__ == '__main__':
  runs.run(main)
