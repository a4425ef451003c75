"""Evaluation: data sets -> restored images -> metrics of every image, tables, and a report to look at.

Each clean image is degraded by each task with a seed made of its name, quantised to 8 bits as a file would be,
restored, and scored on the 8-bit result under a protocol (`protocols`). Paired data sets bring their degraded images.
Beside every score stand the degraded input's and VAE(clean)'s, the ceiling that the latent sets.

The plan, one unit of work for each image, is the same on every process; process p of n takes the units p, p + n, ...,
and the results are gathered and checked against the plan, so that no image is lost or counted twice. The devices of a
process share the rows of each image. Process 0 writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import collections
import json
import logging
import pathlib
import time
from typing import Any

import jax
from ml_collections import ConfigDict

import lh_jax
from lh_jax import exports
from lh_jax import hosts
from lh_jax import html_report
from lh_jax import inference
from lh_jax import judge as judge_lib
from lh_jax import measure as measure_lib
from lh_jax import parallel
from lh_jax import protocols
from lh_jax import results
from lh_jax import storage
from lh_jax.data import figures
from lh_jax.data import image_files
from lh_jax.data import pairs
from lh_jax.data import sources
from lh_jax.ops import degradations

log = logging.getLogger(__name__)


def open_sets(config: ConfigDict) -> dict[str, sources.Source]:
  """Checks the section `evaluate` and opens its data sets.

  Returns:
    The data sets by name; a single one is named after its source.

  Raises:
    FileNotFoundError, ValueError: no such data set, task or protocol, or a value out of its range.
  """
  settings = config.evaluate
  known = (*degradations.BENCHMARK, *degradations.UNMODELLED)
  if not settings.tasks or not set(settings.tasks) <= set(known):
    raise ValueError(f'evaluate.tasks must name some of {known}, got {tuple(settings.tasks)}.')
  for name in ('alpha', 'severity'):
    if not 0.0 <= settings[name] <= 1.0:
      raise ValueError(f'evaluate.{name} must lie in [0, 1], got {settings[name]}.')
  for name in ('max_images', 'report_images'):
    if settings[name] < 0:
      raise ValueError(f'evaluate.{name} must be at least 0, got {settings[name]}.')
  protocols.get(settings.protocol)
  for name, known in (('lpips', protocols.LPIPS), ('fid_kind', protocols.FID_KINDS)):
    if settings[name] not in known:
      raise ValueError(f'evaluate.{name} must be one of {", ".join(known)}, got {settings[name]!r}.')
  parallel.make_space_mesh(settings.devices)
  named = [(settings.source, settings.source, settings.path)]
  if settings.sets:
    named = [parse_set(text) for text in settings.sets]
  twice = [name for name, count in collections.Counter(name for name, _, _ in named).items() if count > 1]
  if twice:
    raise ValueError(f'evaluate.sets has several data sets named {", ".join(twice)}: write NAME=SOURCE:PATH.')
  common = {'split': settings.split, 'tasks': tuple(settings.tasks), 'painted': config.data.dead_leaves.to_dict()}
  # Every image is read once.
  return {name: sources.build(source, path=path, cache_gib=0.0, **common) for name, source, path in named}


def parse_set(text: str) -> tuple[str, str, str]:
  """Returns name, source and path of '[NAME=]SOURCE[:PATH]'; without a name, a set is called after its source."""
  head, _, path = text.partition(':')
  name, equals, source = head.partition('=')
  return name, (source if equals else name), path


def plan(sets: dict[str, sources.Source], tasks: Sequence[str], max_images: int) -> list[judge_lib.Unit]:
  """Lists the work, which depends on names alone.

  Args:
    sets: the data sets.
    tasks: what clean images are degraded with; those from the folder of one task with that task alone (a folder 'noise'
      serves 'noise15', 'noise25' and 'noise50').
    max_images: of each set and task, the first ones; 0 takes all.

  Raises:
    ValueError: an image is named twice, there is no task for it, or there is no image.
  """
  units, counts = [], collections.Counter()
  for name, source in sets.items():
    seen = set()
    for index, item in enumerate(source.items):
      if item.name in seen:
        raise ValueError(f'The data set {name} has two images named {item.name}.')
      seen.add(item.name)
      if item.degraded is not None:
        own = (item.task or 'paired',)
      else:
        own = tuple(task for task in tasks if item.task in (None, task, pairs.without_level(task)))
        alone = [task for task in own if task in degradations.UNMODELLED]
        if alone:
          raise ValueError(f'The data set {name} has clean images alone, and {", ".join(alone)} is not modelled.')
      if not own:
        raise ValueError(f'The data set {name} has clean images for {item.task!r}, which evaluate.tasks does not name.')
      wanted = tuple(task for task in own if not max_images or counts[name, task] < max_images)
      counts.update((name, task) for task in wanted)
      if wanted:
        units.append(judge_lib.Unit(name, index, item.name, wanted))
  if not units:
    raise ValueError(f'There is no image to evaluate in {", ".join(sets)}.')
  return units


def evaluate(config: ConfigDict, workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Evaluates the run in `workdir`.

  Writes evaluation/{images.csv, results.json, table.md, comparison.png, report.html} there.

  Args:
    config: see configs/base.py, section evaluate.
    workdir: a work directory with an export.

  Returns:
    One row for each set and task: {'set', 'task', 'images', '<metric>_<column>'} for the columns input, restored and
    ceiling, averaged over images; on every process the same.

  Raises:
    FileNotFoundError, ValueError: no export, or as `open_sets`, or a damaged image.
    RuntimeError: another process has failed.
  """
  settings = config.evaluate
  started = time.perf_counter()
  sets = hosts.together(lambda: open_sets(config))
  units = plan(sets, tuple(settings.tasks), settings.max_images)
  measure = hosts.together(
    lambda: measure_lib.Measure.load(
      protocols.get(settings.protocol),
      lpips=settings.lpips,
      niqe_model=settings.niqe,
      fid_weights=settings.fid,
      fid_kind=settings.fid_kind,
    )
  )
  # What one process cannot compute, none does: a mean is over all images.
  lacking = parallel.gather(dict(measure.not_computed))
  measure = measure.without({name: reason for found in lacking for name, reason in found.items()})
  for name, reason in measure.not_computed.items():
    log.info('%s is %s.', name, reason)
  # A damaged image must not be found after hours; each process looks at all.
  hosts.together(lambda: [source.check_readable() for source in sets.values()])
  hosts.agree('the weights', {'SHA-256': results.file_hash(exports.find(workdir) / 'params.safetensors')})
  restorer = inference.Restorer.from_pretrained(workdir, dtype=config.train.dtype, devices=settings.devices)
  groups = len({(unit.set, task) for unit in units for task in unit.tasks})
  worst = -(-settings.report_images // groups)  # of each
  judge = judge_lib.Judge(restorer, measure, alpha=settings.alpha, severity=settings.severity, worst=worst)
  shares = parallel.gather(judge.share(sets, units, jax.process_index(), jax.process_count()))
  scores = judge_lib.merge(units, shares)
  rows = results.by_task(scores)
  if measure.inception is not None:
    distances = judge_lib.distances(units, judge.statistics)
    for row in rows:
      found = distances[row['set'], row['task']]
      row.update({f'{measure.set_metric}_{column}': value for column, value in found.items()})
  if jax.process_index() == 0:
    report = header(config, workdir, sets, measure) | {
      'seconds': round(time.perf_counter() - started, 3),
      'rows': rows,
      'average': results.average(rows),
    }
    pictures = {key: images for share in shares for key, images in share.pictures.items()}
    with storage.staged(workdir / 'evaluation') as folder:
      write(folder, report, scores, measure)
      draw(folder, report, measure, pictures, judge_lib.worst(shares, worst), len(scores))
    log.info('Wrote %s.', workdir / 'evaluation')
  return rows


def header(
  config: ConfigDict,
  workdir: pathlib.Path,
  sets: Mapping[str, sources.Source],
  measure: measure_lib.Measure,
) -> dict[str, Any]:
  """Returns what a result was made with and of."""
  weights = exports.find(workdir) / 'params.safetensors'
  settings = config.evaluate
  return {
    'lh_jax': lh_jax.__version__,
    'jax': jax.__version__,
    'device': parallel.device_name(settings.devices),
    'processes': jax.process_count(),
    **measure.provenance,
    'checkpoint': {'path': str(weights), 'sha256': results.file_hash(weights)},
    'alpha': settings.alpha,
    'severity': settings.severity,
    'data': ', '.join(sets),
    'sets': {name: listing(source) for name, source in sets.items()},
    'config': json.loads(config.to_json_best_effort()),
  }


def listing(source: sources.Source) -> dict[str, Any]:
  """Returns how many images a data set has, and a hash that tells it from others without reading its pixels."""
  entries = [
    (item.name, item.height, item.width, *(path.stat().st_size for path in (item.clean, item.degraded) if path))
    for item in source.items
  ]
  return {
    'images': len(entries),
    'sha256': results.list_hash(entries),
    'sha256_of': 'name, height, width, bytes of the clean and, where there is one, of the degraded file; one line each',
  }


def write(
  folder: pathlib.Path, report: dict[str, Any], scores: Sequence[dict[str, Any]], measure: measure_lib.Measure
) -> None:
  """Writes images.csv, results.json and table.md, and prints the table."""
  values = [f'{metric}_{column}' for column in judge_lib.COLUMNS for metric in measure.metrics]
  results.write_csv(folder / 'images.csv', scores, ['set', 'task', 'name', 'height', 'width', *values])
  results.write_json(folder / 'results.json', report)
  text = results.markdown(*table(report['rows'], measure)) + '\n' + note(report, measure) + '\n'
  results.write_text(folder / 'table.md', text)
  print(text, end='')


def draw(
  folder: pathlib.Path,
  report: dict[str, Any],
  measure: measure_lib.Measure,
  pictures: Mapping[tuple[str, str], Sequence[Any]],
  cases: Sequence[html_report.Case],
  count: int,
) -> None:
  """Writes comparison.png, of the first image of each row, and report.html, of the worst of all `count`."""
  rows = report['rows']
  shown = [figures.Row(title=results.label(row, rows), images=tuple(pictures[row['set'], row['task']])) for row in rows]
  image_files.write_image(folder / 'comparison.png', figures.grid(shown, titles=judge_lib.VIEWS))
  titles, lines = table(rows, measure)
  facts = {
    'data': '; '.join(f'{name}: {found["images"]} images' for name, found in report['sets'].items()),
    'alpha, severity': f'{report["alpha"]}, {report["severity"]}',
    'model': f'{report["checkpoint"]["path"]}, SHA-256 {report["checkpoint"]["sha256"]}',
    **html_report.provenance(report),
  }
  page = html_report.page(
    title='Evaluation',
    facts=facts,
    header=titles,
    lines=lines,
    note=note(report, measure),
    cases=cases,
    count=count,
  )
  results.write_text(folder / 'report.html', page)


def table(rows: Sequence[dict[str, Any]], measure: measure_lib.Measure) -> tuple[list[str], list[list[str]]]:
  """Returns the header and the lines of the table: one for each row and, where there are several, their average."""
  titles = ['task', 'images', *(results.METRICS[metric][0] for metric in measure.columns), 'gain (dB)']

  def line(name: str, images: str, row: Mapping[str, Any]) -> list[str]:
    before, after = (row[f'{measure.protocol.headline}_{column}'] for column in ('input', 'restored'))
    gain = 0.0 if before == after else after - before
    verdict = f'{gain:+.2f}' if gain > 0 else f'{gain:+.2f} (no improvement)'
    return [name, images, *judge_lib.cells(row, measure.columns), verdict]

  lines = [line(results.label(row, rows), str(row['images']), row) for row in rows]
  if len(rows) > 1:
    lines.append(line('average', f'{len(rows)} rows', results.average(rows)))
  return titles, lines


def note(report: Mapping[str, Any], measure: measure_lib.Measure) -> str:
  """Returns what a reader of the table must know, as one paragraph."""
  rows = report['rows']
  over = f'; the average is the plain mean of the rows {", ".join(report["average"]["over"])}' if len(rows) > 1 else ''
  words = [
    'Each cell: input → restored (VAE(clean), the ceiling that the latent sets).',
    f'Means over images{over}. Gain is in {results.METRICS[measure.protocol.headline][0]}.',
    results.caveats(report),
  ]
  for row in rows:
    for metric, reason in measure.lacking(row, '_restored').items():
      words.append(f'{results.METRICS[metric][0]} of {results.label(row, rows)} is {reason}.')
  return ' '.join(words)
