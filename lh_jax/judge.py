"""One process's share of an evaluation: images restored, scored, and the worst of them pictured.

The plan, one unit of work for each image, is the same on every process. Process p of n takes the units p, p + n, ...;
`merge` puts the shares together and checks them against the plan, so that no image is lost or counted twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import collections
from concurrent import futures
import dataclasses
import functools
import logging
from typing import Any

import numpy as np

from lh_jax import html_report
from lh_jax import inference
from lh_jax import measure as measure_lib
from lh_jax import parallel
from lh_jax import results
from lh_jax import synthesis
from lh_jax.data import thumbnails
from lh_jax.data.items import Source
from lh_jax.metrics import fid

log = logging.getLogger(__name__)

COLUMNS = ('input', 'restored', 'ceiling')
REFERENCE = 'clean'
VIEWS = ('input', 'restored', 'VAE(clean)', 'clean')
PICTURE = 512  # pixels on a side of what is shown of the first image of a task


@dataclasses.dataclass(frozen=True)
class Unit:
  """One image to evaluate: its set, its index and name in it, and the tasks that it is restored from."""

  set: str
  index: int
  name: str
  tasks: tuple[str, ...]


@dataclasses.dataclass
class Share:
  """What one process found: the scores of its images, its worst cases, and the pictures of each task's first image."""

  scores: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  cases: list[html_report.Case] = dataclasses.field(default_factory=list)
  pictures: dict[tuple[str, str], tuple[np.ndarray, ...]] = dataclasses.field(default_factory=dict)
  failure: str | None = None


class Judge:
  """Restores images and scores them.

  Attributes:
    statistics: of FID's features, by set, task and column, where FID is measured.
  """

  def __init__(
    self,
    restorer: inference.Restorer,
    measure: measure_lib.Measure,
    *,
    alpha: float,
    severity: float,
    worst: int,
  ):
    self._restorer, self._measure = restorer, measure
    self._alpha, self._severity = alpha, severity
    self._worst = html_report.Worst(worst)
    self.statistics: dict[tuple[str, str, str], fid.Statistics] = {}

  def share(self, sets: Mapping[str, Source], units: Sequence[Unit], process: int, count: int) -> Share:
    """Evaluates every `count`-th unit from the `process`-th on. A failure is handed on where others wait for it."""
    firsts = {}
    for unit in units:
      for task in unit.tasks:
        firsts.setdefault((unit.set, task), unit)
    share, own = Share(), units[process::count]
    try:
      for number, (unit, item) in enumerate(_read_ahead(sets, own), 1):
        self._evaluate(unit, item, {task for task in unit.tasks if firsts[unit.set, task] is unit}, share)
        log.info('%d of %d images.', number, len(own))
    except Exception as error:
      if count == 1:
        raise
      share.failure = f'process {process}: {error!r}'
    share.cases = self._worst.cases()
    return share

  def _evaluate(self, unit: Unit, item: dict[str, Any], pictured: set[str], share: Share) -> None:
    clean = item['clean']
    ceiling = self._restorer.reconstruct(clean)
    ceiling_score = self._score(unit, ceiling, clean)
    features = self._features(unit, {'ceiling': ceiling, REFERENCE: clean})
    for task in unit.tasks:
      degraded = degraded_version(item, task, self._severity)
      restored = self._restorer.restore(degraded, alpha=self._alpha)
      scores = (self._score(unit, degraded, clean), self._score(unit, restored, clean), ceiling_score)
      score = {'set': unit.set, 'task': task, 'name': unit.name, 'height': clean.shape[0], 'width': clean.shape[1]}
      score |= {
        f'{metric}_{column}': value for column, values in zip(COLUMNS, scores) for metric, value in values.items()
      }
      share.scores.append(score)
      for column, found in (features | self._features(unit, {'input': degraded, 'restored': restored})).items():
        self.statistics.setdefault((unit.set, task, column), fid.Statistics.empty()).add(found)
      told = (score[f'{self._measure.protocol.headline}_{column}'] for column in COLUMNS)
      log.info('%s, %s: PSNR %.2f -> %.2f dB (ceiling %.2f)', unit.name, task, *told)
      images = dict(zip(VIEWS, (degraded, restored, ceiling, clean)))
      if task in pictured:
        middle = (clean.shape[0] // 2, clean.shape[1] // 2)
        share.pictures[unit.set, task] = tuple(thumbnails.window(image, middle, PICTURE) for image in images.values())
      group, rank = f'{unit.set}: {task}', score[f'{self._measure.protocol.headline}_restored']
      if self._worst.wants(group, rank):
        named = zip(self._measure.metrics, cells(score, self._measure.metrics))
        caption = '; '.join(f'{results.METRICS[metric][0]} {cell}' for metric, cell in named)
        self._worst.add(
          html_report.case(images, restored='restored', group=group, name=unit.name, rank=rank, caption=caption)
        )

  def _score(self, unit: Unit, image: np.ndarray, clean: np.ndarray) -> dict[str, float]:
    try:
      return self._measure.score(image, clean)
    except ValueError as error:
      raise ValueError(f'{unit.name} of {unit.set}: {error}') from error

  def _features(self, unit: Unit, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if self._measure.inception is None:
      return {}
    try:
      return {column: self._measure.features(image) for column, image in images.items()}
    except ValueError as error:
      raise ValueError(f'{unit.name} of {unit.set}: {error}') from error


def _read_ahead(sets: Mapping[str, Source], units: Sequence[Unit]) -> Iterator[tuple[Unit, dict[str, Any]]]:
  """Yields every unit with its images, while the next one's are being read."""
  with futures.ThreadPoolExecutor(1, 'read') as reader:
    waiting = collections.deque()
    for unit in units:
      waiting.append((unit, reader.submit(sets[unit.set].__getitem__, unit.index)))
      if len(waiting) == 2:
        earlier, item = waiting.popleft()
        yield earlier, item.result()
    for unit, item in waiting:
      yield unit, item.result()


def degraded_version(item: dict[str, Any], task: str, severity: float) -> np.ndarray:
  """Returns the degraded uint8 image of one item: its own, or made of the clean one by `synthesis.synthesise`."""
  if 'degraded' in item:
    return item['degraded']
  return synthesis.synthesise(item['clean'], name=item['name'], task=task, severity=severity)


def merge(units: Sequence[Unit], shares: Sequence[Share]) -> list[dict[str, Any]]:
  """Returns the scores of all processes in the order of the plan.

  Raises:
    RuntimeError: a process has failed, or the scores are not exactly those of the plan.
  """
  failures = [share.failure for share in shares if share.failure]
  if failures:
    raise RuntimeError(f'The evaluation failed on {"; ".join(failures)}')
  found = collections.defaultdict(list)
  for share in shares:
    for score in share.scores:
      found[score['set'], score['task'], score['name']].append(score)
  planned = {(unit.set, task, unit.name): 1 for unit in units for task in unit.tasks}
  wrong = [key for key in {**planned, **found} if len(found.get(key, ())) != planned.get(key, 0)]
  if wrong:
    raise RuntimeError(f'The evaluation lost or doubled images, or the processes see different data: {wrong}')
  return [found[key][0] for key in planned]


def distances(units: Sequence[Unit], statistics: Mapping[tuple[str, str, str], fid.Statistics]) -> dict[str, Any]:
  """Frechet distances of every set and task to its clean images, over the images of all processes.

  Args:
    units: the plan, by which every process comes to the same distances in the same order.
    statistics: this process's, of `Judge.statistics`.

  Returns:
    {(set, task): {column: distance}}, empty where there are fewer than two images or patches.
  """
  found = {}
  for key in dict.fromkeys((unit.set, task) for unit in units for task in unit.tasks):
    # One at a time: each is 34 MB.
    whole = {
      column: functools.reduce(
        fid.Statistics.merge, parallel.gather(statistics.get((*key, column), fid.Statistics.empty()))
      )
      for column in (*COLUMNS, REFERENCE)
    }
    reference = whole.pop(REFERENCE)
    enough = reference.count >= 2
    found[key] = {column: fid.distance(value, reference) for column, value in whole.items()} if enough else {}
  return found


def worst(shares: Sequence[Share], count: int) -> list[html_report.Case]:
  """Returns up to `count` cases of each group from the shares of all processes, see `html_report.Worst.cases`."""
  kept = html_report.Worst(count)
  for share in shares:
    for case in share.cases:
      kept.add(case)
  return kept.cases()


def cells(score: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
  """Returns, for every metric, 'input → restored (ceiling)' of a score or of a row of means; '-' where not computed."""
  found = []
  for metric in metrics:
    values = [score.get(f'{metric}_{column}') for column in COLUMNS]
    if None in values:
      found.append('-')
    else:
      before, after, ceiling = (results.shown(metric, value) for value in values)
      found.append(f'{before} → {after} ({ceiling})')
  return found
