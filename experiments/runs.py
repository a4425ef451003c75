"""What the paper's experiments share: options, trained variants, held-out images, scores.

  options = runs.parser(__doc__).parse_args()
  restorer = runs.restorer(runs.train('no_pdps', options))
  rows = runs.evaluate(restorer, runs.TASKS, options)
  runs.write(options, 'table5a', {'rows': rows, ...}, figure)

Contract: a variant is a name, and nothing but its configuration (`config`) tells it from another one. Its work
directory is RUNS/<scale>/<variant>; training it again finds it finished or resumes it, and refuses it where the
configuration has changed since. Variants whose stage 1 is the same share one. Everything is a function of --seed, the
photographs and the scale:
  dry    tiny networks, a step or two: everything runs, no number means anything. Minutes for all.
  smoke  the paper's networks, hundreds of steps on small crops of a few photographs: trends at best.
  paper  the paper's schedules on the real data sets.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import pathlib
import runpy
import sys
import time
from typing import Any, Callable, Iterator, Mapping, Sequence

from ml_collections import ConfigDict
import numpy as np

import lh_jax
from lh_jax import logs
from lh_jax import measure
from lh_jax import parallel
from lh_jax import protocols
from lh_jax import results as results_lib
from lh_jax import synthesis
from lh_jax import train as train_lib
from lh_jax.data import datasets
from lh_jax.data import image_files
from lh_jax.data import pairs
from lh_jax.data import sources
from lh_jax.ops import degradations
import records
import scales

ROOT = pathlib.Path(__file__).resolve().parents[1]
published = records.published
device = records.device

TASKS = ('low_light', 'haze', 'blur', 'noise15', 'noise25', 'noise50')  # Table 1, in the order of its columns
UNSEEN = ('rain', 'snow', 'moire')  # Table 4
COMPOSITES = ('low_light+noise25', 'haze+low_light', 'noise25+blur')  # Table 4
COLUMNS = ('input', 'restored', 'ceiling')
_NOT_TRAINED = ('mesh', 'hosts', 'profile', 'evaluate', 'restore')  # sections that leave the weights alone
# Of the synthesised test images. Moire at its strongest is still milder than the published photographs of screens.
SEVERITY, SEVERITIES = 0.3, {'moire': 1.0}


def parser(doc: str) -> argparse.ArgumentParser:
  """Returns the options that every experiment has; `doc` is the docstring of its file."""
  found = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
  add = found.add_argument
  add('--scale', choices=tuple(scales.SCALES), default='smoke', help='how much is trained on what; see runs.py')
  add('--photos', type=pathlib.Path, help='folder of photographs for dry and smoke; default: those of scikit-image')
  add('--data', type=pathlib.Path, help='folder of the published data sets, for paper: uhd_ll, uhd_haze, ...')
  add('--runs', type=pathlib.Path, default=ROOT / 'runs' / 'experiments', help='where training runs are kept')
  add('-o', '--output', type=pathlib.Path, default=records.HERE / 'results', help='folder of results')
  add('--seed', type=int, default=0, help='of training, synthesis and everything drawn')
  found.set_defaults(started=time.perf_counter(), variants={})
  return found


def run(main: Callable[[], None]) -> None:
  """Runs an experiment; a mistake in what it was given ends with one line and exit code 1."""
  try:
    main()
  except (ValueError, OSError, logs.TrainingDivergedError) as error:
    sys.exit(f'{pathlib.Path(sys.argv[0]).name}: {error}')


def config(variant: str, options: argparse.Namespace) -> ConfigDict:
  """Returns the configuration of a variant at a scale.

  Args:
    variant: a file of configs/ with its argument, as 'single:haze', or an argument of configs/ablations.py, as 'full'.
    options: of `parser`.

  Raises:
    ValueError: unknown variant.
    FileNotFoundError: the real data sets, or the photographs, are not there.
  """
  name, _, argument = variant.partition(':')
  if not (ROOT / 'configs' / f'{name}.py').is_file():
    name, argument = 'ablations', variant
  found = runpy.run_path(str(ROOT / 'configs' / f'{name}.py'))['get_config'](argument)
  found.train.seed = options.seed
  if options.scale == 'paper':
    found.data.update(real_data(options, found.data.tasks))
    return found
  scales.shrink(found, options.scale, keep_foundation=variant.startswith('foundation_'))
  if options.photos:
    found.data.update({'source': 'folder', 'path': str(photographs(options)[0])})
  return found


def real_data(options: argparse.Namespace, tasks: Sequence[str]) -> dict[str, str]:
  """Returns the published data sets of some tasks, as 'source' and 'path' of a configuration's section data.

  Raises:
    FileNotFoundError: naming every folder that is missing below --data.
  """
  wanted = {pairs.without_level(task) for task in tasks}
  sets = [dataset for dataset in datasets.DATASETS.values() if dataset.task in wanted]
  root = options.data or pathlib.Path('DATA')
  folders = {d.name: next((root / name for name in (d.name, d.title) if (root / name).is_dir()), None) for d in sets}
  missing = [name for name, folder in folders.items() if folder is None]
  if options.data is None or missing:
    raise FileNotFoundError(
      f'--scale=paper needs the data sets {", ".join(str(root / name) for name in missing or folders)}: name the '
      'folder that holds them in --data. `python -m lh_jax.data check DIR --dataset NAME` says where to get one, and '
      'checks it.'
    )
  # One set is named by its own folder, several by the one above.
  return {'source': '+'.join(folders), 'path': str(root if len(folders) > 1 else folders[sets[0].name])}


def photographs(options: argparse.Namespace) -> tuple[pathlib.Path, pathlib.Path]:
  """Links the photographs of --photos into two folders, for training and for tests, and returns them.

  An eighth is held out, by a hash of the name; where that is none, the one with the lowest hash.

  Raises:
    FileNotFoundError, ValueError: no such folder, or fewer than two photographs.
  """
  files = {file.relative_to(options.photos).as_posix(): file for file in image_files.list_images(options.photos)}
  if len(files) < 2:
    raise ValueError(f'--photos {options.photos} holds {len(files)} photograph(s): one to train and one to test on.')
  order = sorted(files, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
  held = [name for name in order if int(hashlib.sha256(name.encode()).hexdigest()[0], 16) < 2] or order[:1]
  listing = '\n'.join(f'{name} {file.resolve()}' for name, file in sorted(files.items()))
  root = options.runs / 'photographs' / hashlib.sha256(listing.encode()).hexdigest()[:8]
  for name, file in files.items():
    link = root / ('test' if name in held else 'train') / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
      link.symlink_to(file.resolve())
  return root / 'train', root / 'test'


def train(variant: str, options: argparse.Namespace) -> pathlib.Path:
  """Trains a variant, resumes it, or finds it finished.

  Returns:
    Its work directory, with an export of the whole model.

  Raises:
    ValueError: its work directory was trained with another configuration; or as `config`.
  """
  logs.to_console()
  parallel.enable_compilation_cache()
  settings = config(variant, options)
  first = _stage1(settings)
  shared = options.runs / options.scale / f'stage1-{_digest(first)}'
  _train(first, shared)
  digest = _digest(settings)
  settings.train.update({'stages': ('stage2',), 'init_from': str(shared)})
  workdir = options.runs / options.scale / variant.replace(':', '_')
  _train(settings, workdir)
  options.variants[variant] = digest
  return workdir


def stage1(variant: str, options: argparse.Namespace) -> pathlib.Path:
  """Trains a variant's VAE alone; returns the work directory, which other variants with the same stage 1 share."""
  logs.to_console()
  parallel.enable_compilation_cache()
  first = _stage1(config(variant, options))
  digest = _digest(first)
  workdir = options.runs / options.scale / f'stage1-{digest}'
  _train(first, workdir)
  options.variants.setdefault(f'{variant}, stage 1', digest)
  return workdir


def _stage1(settings: ConfigDict) -> ConfigDict:
  """The configuration of a variant's stage 1: what stage 1 does not read is as in configs/base.py."""
  first = settings.copy_and_resolve_references()
  base = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  for section in ('restorer', 'lora', 'discriminator', 'stage2', 'evaluate'):
    first[section] = base[section]
  for name in ('restorer', 'encoder_lora', 'decoder_lora', 'discriminator'):
    first.optim[name] = base.optim[name]
  if not first.losses.invariance:
    first.foundation = base.foundation
  first.train.stages = ('stage1',)
  return first


def _train(settings: ConfigDict, workdir: pathlib.Path) -> None:
  written = workdir / 'config.json'
  if written.is_file():
    before, now = _flat(_trained_by(written.read_text(encoding='utf-8'))), _flat(_plain(settings))
    changed = sorted(name for name in before | now if before.get(name) != now.get(name) and name != 'train.init_from')
    if changed:
      raise ValueError(
        f'{workdir} was trained with another configuration ({", ".join(changed)} differ): remove it, or name another '
        'folder in --runs.'
      )
  train_lib.train(settings, workdir)


def _plain(settings: ConfigDict) -> dict[str, Any]:
  return _trained_by(settings.to_json_best_effort())


def _trained_by(text: str) -> dict[str, Any]:
  """What of a configuration, as JSON, decides what is trained: training is the same on every mesh."""
  found = {name: section for name, section in json.loads(text).items() if name not in _NOT_TRAINED}
  found['data'].pop('timeout_seconds', None)  # when a run gives up, not what it learns
  return found


def _flat(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  found = {}
  for name, value in tree.items():
    found |= _flat(value, f'{prefix}{name}.') if isinstance(value, dict) else {f'{prefix}{name}': value}
  return found


def _digest(settings: ConfigDict) -> str:
  return hashlib.sha256(json.dumps(_plain(settings), sort_keys=True).encode()).hexdigest()[:8]


def restorer(workdir: pathlib.Path) -> lh_jax.Restorer:
  """Returns the model of a finished run."""
  return lh_jax.Restorer.from_pretrained(workdir)


def test_images(options: argparse.Namespace) -> list[tuple[str, np.ndarray]]:
  """Returns (name, clean uint8 image) of what no run has trained on.

  At paper scale, the clean images of the first task; otherwise the middles of the held-out photographs, or parts, which
  overlap, of the one of scikit-image's that is held out.
  """
  if options.scale == 'paper':
    return [(item['name'], item['clean']) for item in _real_tests(options, TASKS[0])]
  side, count = scales.TEST[options.scale]
  if options.photos:
    source = sources.folder(photographs(options)[1])
    return [(item['name'], _middle(item['clean'], side)) for item, _ in zip(source, range(count))]
  (item,) = sources.embedded(split='test')
  stem, height, width = pathlib.Path(item['name']).stem, *item['clean'].shape[:2]
  top, lefts = (height - side) // 2, np.linspace(0, width - side, count).astype(int)
  return [(f'{stem}_{left}.png', item['clean'][top : top + side, left : left + side]) for left in lefts]


def _middle(image: np.ndarray, side: int) -> np.ndarray:
  top, left = (max(length - side, 0) // 2 for length in image.shape[:2])
  return image[top : top + side, left : left + side]


def degraded(options: argparse.Namespace, tasks: Sequence[str]) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
  """Yields (name, task, degraded uint8 image, clean uint8 image), task by task.

  Synthesised from `test_images`; at paper scale real pairs, where noise is drawn on the clean images, and a composite
  adds its second degradation to the real first one.
  """
  if options.scale != 'paper':
    images = test_images(options)
    for task in tasks:
      for name, clean in images:
        yield name, task, synthesise(clean, name=name, task=task, options=options), clean
    return
  for task in tasks:
    first, *later = degradations.COMPOSITES.get(task, (task,))
    for item in _real_tests(options, first):
      image = item.get('degraded')
      for part in [first, *later] if image is None else later:
        image = synthesise(item['clean'] if image is None else image, name=item['name'], task=part, options=options)
      yield item['name'], task, image, item['clean']


def _real_tests(options: argparse.Namespace, task: str) -> sources.Source:
  found = real_data(options, [task])
  return sources.build(found['source'], path=found['path'], split='test')


def synthesise(clean: np.ndarray, *, name: str, task: str, options: argparse.Namespace) -> np.ndarray:
  """Degrades one image, at the severity of all experiments."""
  severity = SEVERITIES.get(task, SEVERITY)
  return synthesis.synthesise(clean, name=name, task=task, severity=severity, seed=options.seed)


@functools.cache
def _measure() -> measure.Measure:
  return measure.Measure.load(protocols.get(protocols.DEFAULT))


def score(image: np.ndarray, clean: np.ndarray) -> dict[str, float]:
  """Scores uint8 pixels by the default protocol; LPIPS only where its weights are converted."""
  return _measure().score(image, clean)


def evaluate(
  model: lh_jax.Restorer, tasks: Sequence[str], options: argparse.Namespace, *, alpha: float = 0.5
) -> list[dict[str, Any]]:
  """Restores and scores the test images.

  Args:
    model: as from `restorer`.
    tasks: of `lh_jax.synthesis`.
    options: of `parser`.
    alpha: 1 is most faithful, 0 most perceptual.

  Returns:
    One row per task, {'task', 'images', '<metric>_<column>'} with the columns of `COLUMNS` (ceiling: VAE(clean)),
    averaged over its images; and a last one, 'average', the plain mean of the others, as in the paper's tables.
  """
  found: dict[str, list[dict[str, float]]] = {}
  ceilings: dict[str, dict[str, float]] = {}
  for name, task, image, clean in degraded(options, tasks):
    if name not in ceilings:
      ceilings[name] = score(model.reconstruct(clean), clean)
    columns = (score(image, clean), score(model.restore(image, alpha=alpha), clean), ceilings[name])
    found.setdefault(task, []).append(
      {f'{metric}_{column}': value for column, values in zip(COLUMNS, columns) for metric, value in values.items()}
    )
  rows = [{'task': task, 'images': len(scores), **results_lib.mean(scores)} for task, scores in found.items()]
  return [*rows, {'task': 'average', 'images': sum(row['images'] for row in rows), **results_lib.mean(rows)}]


def write(options: argparse.Namespace, name: str, result: Mapping[str, Any], figure: Any = None) -> None:
  """Writes what an experiment found; as `records.write`."""
  severity = {'all': SEVERITY} | SEVERITIES
  records.write(options, name, {'severity': severity, **result}, figure, not_computed=_measure().not_computed)
