"""Two folders of images -> metrics: what `lh-evaluate` does, for results that any method wrote.

Contract: nothing is resized or skipped in silence, and everything that names and file headers can tell is checked before
anything is scored. `pairing` says what belongs together, `protocols` what is measured.

JAX takes seconds to start, so that everything that needs it is imported only after the folders have proved to be right.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import dataclasses
import importlib.metadata
import logging
from pathlib import Path
import sys
import time
from typing import Any, TYPE_CHECKING

import lh_jax
from lh_jax import pairing
from lh_jax import protocols

if TYPE_CHECKING:
  from lh_jax.measure import Measure

log = logging.getLogger('lh_jax.scoring')

INTERRUPTED = 130  # exit code of what Ctrl-C ended, as shells have it
LOSSY = ('.jpeg', '.jpg', '.webp')
WORST = 24  # images in the HTML report
VIEWS = ('restored', 'reference')

_EXAMPLES = """examples:
  lh-evaluate results/uhd_ll UHD-LL/testing_set/gt -o uhd_ll.json --csv uhd_ll.csv --html uhd_ll.html
  lh-evaluate results/uhd_ll UHD-LL/testing_set/gt --protocol aio

a restored image is paired with the reference of the same relative path without suffix: a/0001.png with a/0001.jpg, but
not with a/0001_restored.png

exit codes: 0 all images scored, 1 some missing, extra, of another size or unreadable (each is named), 2 usage error,
130 interrupted"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """How to score two folders.

  Attributes:
    protocol: name of one of `protocols.PROTOCOLS`.
    lpips: 'auto' where its weights are at hand, or 'none'.
    niqe: file of NIQE's model; None leaves it out.
    fid: file of FID's Inception network; None leaves it out.
    fid_kind: 'image' or 'patch', see `measure`.
    allow_missing: score what has a counterpart, and record what has not.
    output: JSON file of the result; None for none.
    csv: file with one line an image.
    html: report with the worst images.
  """

  protocol: str
  lpips: str = 'auto'
  niqe: Path | None = None
  fid: Path | None = None
  fid_kind: str = 'image'
  allow_missing: bool = False
  output: Path | None = None
  csv: Path | None = None
  html: Path | None = None


def score_folders(restored: Path, reference: Path, options: Options) -> int:
  """Scores a folder against another, prints the table and writes what the options name.

  Args:
    restored: the results of a method.
    reference: the clean images.
    options: see `Options`.

  Returns:
    The exit code: 0, or 1 when an image could not be read or scored; the others are scored and written.

  Raises:
    FileNotFoundError, ValueError: no such folder or protocol, a file that cannot be written, or as `pairing.pair_folders`.
  """
  from lh_jax import reports

  protocol = protocols.get(options.protocol)
  for path, suffix in ((options.output, '.json'), (options.csv, '.csv'), (options.html, '.html')):
    if path is not None:
      reports.check(path, suffix)
  pairs, unpaired = pairing.pair_folders(restored, reference, allow_missing=options.allow_missing)
  started = time.perf_counter()
  from lh_jax import logs
  from lh_jax import measure as measure_lib
  from lh_jax import parallel
  from lh_jax import results

  logs.to_console()
  parallel.enable_compilation_cache()
  measure = measure_lib.Measure.load(
    protocol,
    lpips=options.lpips,
    niqe_model=options.niqe or '',
    fid_weights=options.fid or '',
    fid_kind=options.fid_kind,
  )
  scores, of_set, failures, cases = _score(pairs, measure, pictures=options.html is not None)
  scored = {score['name'] for score in scores}
  mean = (results.mean(scores) if scores else {}) | of_set
  report = {
    'lh_jax': lh_jax.__version__,
    'jax': importlib.metadata.version('jax'),
    'device': parallel.device_name(1),
    **measure.provenance,
    'not_computed': {**measure.not_computed, **(measure.lacking(mean) if scores else {})},
    'restored': str(restored),
    'reference': str(reference),
    'images': len(scores),
    'sha256': _listing([pair for pair in pairs if pair.name in scored]),
    'sha256_of': 'of each scored image: name, height, width, bytes of the restored and of the reference file; one line each',
    'allow_missing': options.allow_missing,
    **unpaired,
    'failed': failures,
    'notes': _notes(pairs),
    'seconds': round(time.perf_counter() - started, 3),
    'mean': mean,
    'files': scores,
  }
  _write(report, scores, cases, measure, options)
  for failure in failures:
    print(f'failed: {failure}', file=sys.stderr)
  return 1 if failures else 0


def _score(
  pairs: Sequence[pairing.Pair], measure: Measure, *, pictures: bool
) -> tuple[list[dict[str, Any]], dict[str, float], list[str], list[Any]]:
  """Scores of the images, those of the set, one line on each image that failed, and the worst cases."""
  from lh_jax import html_report
  from lh_jax import results
  from lh_jax.data import items
  from lh_jax.metrics import fid

  scores, failures, worst = [], [], html_report.Worst(WORST if pictures else 0)
  statistics = [fid.Statistics.empty() for _ in VIEWS] if measure.inception is not None else []
  for number, pair in enumerate(pairs, 1):
    try:
      images = dict(zip(VIEWS, (items.read_uint8(pair.restored), items.read_uint8(pair.reference))))
      values = measure.score(*images.values())
      # All features before any is counted: an image that fails is left out of both sets.
      features = [measure.features(image) for _, image in zip(statistics, images.values())]
    except ValueError as error:
      failures.append(f'{pair.name}: {error}')
      continue
    for total, found in zip(statistics, features):
      total.add(found)
    scores.append({'name': pair.name, **values})
    told = ', '.join(f'{results.METRICS[metric][0]} {results.shown(metric, value)}' for metric, value in values.items())
    log.info('[%d/%d] %s: %s', number, len(pairs), pair.name, told)
    rank = values[measure.protocol.headline]
    if worst.wants('images', rank):
      worst.add(html_report.case(images, restored='restored', group='images', name=pair.name, rank=rank, caption=told))
  enough = bool(statistics) and statistics[0].count >= 2
  return scores, {measure.set_metric: fid.distance(*statistics)} if enough else {}, failures, worst.cases()


def _listing(pairs: Sequence[pairing.Pair]) -> str:
  from lh_jax import results

  return results.list_hash(
    (pair.name, *pair.size, pair.restored.stat().st_size, pair.reference.stat().st_size) for pair in pairs
  )


def _notes(pairs: Sequence[pairing.Pair]) -> list[str]:
  lossy = sum(pair.restored.suffix.lower() in LOSSY for pair in pairs)
  words = 'restored images are JPEG or WebP files: their compression is part of what is measured'
  return [f'{lossy} of {len(pairs)} {words}'] if lossy else []


def _write(report: dict[str, Any], scores: list, cases: list, measure: Measure, options: Options) -> None:
  from lh_jax import html_report
  from lh_jax import results

  if options.csv is not None:
    results.write_csv(options.csv, scores, ['name', *measure.metrics])
  if options.output is not None:
    results.write_json(options.output, report)
  header = ['images', *(results.METRICS[metric][0] for metric in measure.columns)]
  mean = report['mean']
  cells = [results.shown(metric, mean[metric]) if metric in mean else '-' for metric in measure.columns]
  lines = [[str(report['images']), *cells]]
  counts = [f'{len(report[kind])} {kind}' for kind in ('missing', 'extra', 'failed') if report[kind]]
  left_out = f'Left out: {", ".join(counts)}. ' if counts else ''
  notes = ''.join(f' {note}.' for note in report['notes'])
  note = f'Means over images. {left_out}{results.caveats(report)}{notes}'
  print(f'{results.markdown(header, lines)}\n{note}')
  if options.html is not None:
    folders = {name: report[name] for name in ('restored', 'reference')}
    page = html_report.page(
      title='Scores of a folder',
      facts={**folders, **html_report.provenance(report)},
      header=header,
      lines=lines,
      note=note,
      cases=cases,
      count=len(scores),
    )
    results.write_text(options.html, page)


def parser() -> argparse.ArgumentParser:
  """Returns the parser; besides `restored` and `reference` it yields the fields of `Options`."""
  found = argparse.ArgumentParser(
    allow_abbrev=False,
    prog='lh-evaluate',
    description='Score the images in a folder, written by any method, against their references.',
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = found.add_argument
  add('restored', type=Path, metavar='RESTORED_DIR', help='the images of a method; searched with its sub-folders')
  add('reference', type=Path, metavar='REFERENCE_DIR', help='the clean images')
  add(
    '--protocol',
    default=protocols.DEFAULT,
    choices=protocols.PROTOCOLS,
    metavar='NAME',
    help=f'what is measured: {", ".join(protocols.PROTOCOLS)}; default {protocols.DEFAULT}',
  )
  add('-o', '--output', type=Path, metavar='RESULT.json', help='write the result with its provenance')
  add('--csv', type=Path, metavar='FILE.csv', help='write one line an image')
  add('--html', type=Path, metavar='FILE.html', help='write a report with sliders over the worst images')
  add(
    '--lpips',
    choices=protocols.LPIPS,
    default='auto',
    help='auto, the default: where its weights have been converted; none: never',
  )
  add('--niqe', type=Path, metavar='FILE', help='measure NIQE with this model, see lh_jax.metrics.niqe.load')
  add('--fid', type=Path, metavar='FILE', help='measure FID with these weights, of lh_jax.convert inception_fid')
  add(
    '--fid-kind',
    choices=protocols.FID_KINDS,
    default='image',
    help='image, the default: whole images shrunk to 299 pixels; patch: their parts at full size',
  )
  add('--allow-missing', action='store_true', help='score what is in both folders; the result lists the rest')
  add('--version', action='version', version=f'lh_jax {lh_jax.__version__}')
  return found


def main(argv: Sequence[str] | None = None) -> int:
  """Runs `lh-evaluate`.

  Args:
    argv: its arguments; None takes those of the process.

  Returns:
    The exit code: 0 when every image has been scored, 1 when folders or images do not fit, 130 when interrupted. A
    usage error ends the process with 2.
  """
  arguments = parser()
  found = vars(arguments.parse_args(argv))
  restored, reference = found.pop('restored'), found.pop('reference')
  try:
    return score_folders(restored, reference, Options(**found))
  except pairing.PairingError as error:
    print(f'lh-evaluate: {error}', file=sys.stderr)
    return 1
  except (ValueError, OSError) as error:
    log.debug('Traceback:', exc_info=True)
    arguments.error(str(error))
  except KeyboardInterrupt:
    return INTERRUPTED


def run() -> int:
  """Runs `lh-evaluate` in a process of its own: the console command."""
  return main()


if __name__ == '__main__':
  sys.exit(run())
