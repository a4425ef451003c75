"""Files in, files out: what `lh-restore` and --mode=restore do.

Each file succeeds or fails by itself: a bad one is named with its reason and the others are still written. A file is
written under a temporary name and then renamed, so a killed run leaves no half file, and running the same command again
continues with the files that are missing.

JAX takes seconds to start, so that everything that needs it is imported only after the options, the inputs and the
outputs have proved to be right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import importlib.metadata
import logging
import os
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Any

import lh_jax
from lh_jax import options as options_lib

if TYPE_CHECKING:
  from ml_collections import ConfigDict

log = logging.getLogger('lh_jax.restore')

INTERRUPTED = 130  # exit code of what Ctrl-C ended, as shells have it


def restore(
  inputs: Sequence[pathlib.Path],
  output: pathlib.Path,
  options: options_lib.Options,
  *,
  own_process: bool = False,
  share: tuple[int, int] = (0, 1),
) -> int:
  """Restores files.

  Args:
    inputs: images and folders of images.
    output: see `folders.plan`.
    options: see `options.Options`.
    own_process: the process does nothing else, so that its allocator may be set up for this.
    share: (p, n): the p-th of n processes that call this together takes every n-th file from the p-th on; process 0
      tells the totals and writes the report.

  Returns:
    The exit code: 0 when every file has been restored, now or before, 1 when some failed, 130 when interrupted.

  Raises:
    ValueError, OSError: as `folders.plan`, `reports.check`, `Restorer.from_pretrained` and `Baseline.from_file`, before
      anything is written.
  """
  from lh_jax import folders
  from lh_jax import reports

  began, started = time.time(), time.perf_counter()
  jobs = folders.plan(inputs, output, recursive=options.recursive)
  if options.report is not None:
    reports.check(options.report)
  records = [reports.Record(job.source, job.target, list(job.notes)) for job in jobs]
  for record, job in zip(records, jobs):
    if job.error:
      record.fail(OSError(job.error))
  header: dict[str, Any] = {
    'lh_jax': lh_jax.__version__,
    'jax': importlib.metadata.version('jax'),
    'device': None,
    'dtype': None,
    'checkpoint': options.checkpoint or 'bundled',
    'options': dataclasses.asdict(options) | {'report': options.report and str(options.report)},
    'started': time.strftime('%Y-%m-%dT%H:%M:%S%z', time.localtime(began)),
  }
  interrupted = False
  process, count = share
  own = records[process::count]
  try:
    if count == 1:
      _restore_missing(own, options, header, own_process)
    else:
      from lh_jax import hosts

      hosts.together(lambda: _restore_missing(own, options, header, own_process))
  except KeyboardInterrupt:
    interrupted = True
  if count > 1:
    records, interrupted = _gathered(own, len(records), interrupted)
    header['processes'] = count
  seconds = time.perf_counter() - started
  totals = _tell_totals(records, seconds, interrupted) if process == 0 else reports.totals(records)
  code = INTERRUPTED if interrupted else 1 if totals['failed'] else 0
  if options.report is not None and process == 0:
    try:
      reports.write(options.report, {**header, 'seconds': round(seconds, 3), 'interrupted': interrupted}, records)
    except OSError as error:
      log.error('The report %s could not be written: %s', options.report, error)
      code = code or 1
  return code


def _gathered(own: list, total: int, interrupted: bool) -> tuple[list, bool]:
  """Returns the records of all processes in the order of the files, and whether any process was interrupted."""
  from lh_jax import parallel

  shares = parallel.gather((own, interrupted))
  records = [shares[index % len(shares)][0][index // len(shares)] for index in range(total)]
  return records, any(stopped for _, stopped in shares)


def _restore_missing(records: list, options: options_lib.Options, header: dict[str, Any], own_process: bool) -> None:
  """Restores what is not there yet; completes the records and, in `header`, what it was done with."""
  from lh_jax import memory

  if own_process:
    # Photographs and other programs need memory too: take it from a GPU as it is needed.
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
    memory.keep_freed_pages()
  from lh_jax import jobs
  from lh_jax import logs
  from lh_jax import parallel

  logs.to_console()
  if not options.overwrite and (skipped := jobs.skip_finished(records)):
    log.info('%d of %d files exist already and are skipped (--overwrite writes them again).', skipped, len(records))
    if skipped == len(records):
      return
  parallel.enable_compilation_cache()
  restorer, settings = _restorer(options)
  header |= _device(options)
  log.info('Restoring on %s in %s.', header['device'], header['dtype'])
  jobs.restore_files(
    restorer,
    records,
    **settings,
    metadata=options.metadata,
    quality=options.quality,
    overwrite=options.overwrite,
  )


def _restorer(options: options_lib.Options) -> tuple[Any, dict[str, Any]]:
  """Loads the model; returns it with the arguments of its `run`."""
  from lh_jax import baselines
  from lh_jax import inference

  settings: dict[str, Any] = {'max_memory': options.max_memory}
  if options.on_pixels:
    return baselines.Baseline.from_file(options.checkpoint, dtype=options.dtype), settings
  settings |= {'alpha': inference.DEFAULT_ALPHA if options.alpha is None else options.alpha, 'tile': options.tile}
  model = inference.Restorer.from_pretrained(options.checkpoint, dtype=options.dtype, devices=options.devices)
  return model, settings


def _device(options: options_lib.Options) -> dict[str, str]:
  """Names the device and the dtype, and warns where a better device seems to lie idle."""
  import jax
  import numpy as np

  from lh_jax import inference
  from lh_jax import parallel

  if jax.default_backend() == 'cpu' and 'JAX_PLATFORMS' not in os.environ and gpu_is_present():
    log.warning(
      'WARNING: there is an NVIDIA GPU, but JAX runs on the CPU; pip install "lh_jax[cuda12]" lets it run there.'
    )
  return {
    'device': parallel.device_name(options.devices),
    'dtype': np.dtype(inference.activation_dtype(options.dtype)).name,
  }


def gpu_is_present() -> bool:
  """Whether the system shows an NVIDIA GPU, whatever JAX makes of it (Linux)."""
  return any(pathlib.Path('/dev').glob('nvidia[0-9]*'))


def _tell_totals(records: list, seconds: float, interrupted: bool) -> dict[str, int]:
  from lh_jax import reports

  totals = reports.totals(records)
  words = [f'{totals[name]} {name.replace("_", " ")}' for name in (*reports.STATUSES, 'not_reached') if totals[name]]
  log.info('%s%s, %.1f s.', 'Interrupted: ' if interrupted else '', ', '.join(words), seconds)
  for record in records:
    if record.status == 'failed':
      print(f'failed: {record.failure()}', file=sys.stderr)
  return totals


def restore_config(config: ConfigDict, workdir: pathlib.Path) -> int:
  """Restores config.restore.input to config.restore.output with config.restore.checkpoint or, where that is empty, the
  run in `workdir`, the files shared by all processes; returns the exit code.

  Raises:
    ValueError, OSError: as `restore`, no input or output named, or an option out of its range.
  """
  settings = config.restore
  if not settings.input or not settings.output:
    raise ValueError('--mode=restore needs --config.restore.input=PATH and --config.restore.output=PATH.')
  from lh_jax import inference

  alpha = _setting('alpha', options_lib.parse_alpha, settings.alpha)
  options = options_lib.Options(
    checkpoint=settings.checkpoint or str(workdir),
    # A configuration always has an alpha, and its default is no choice.
    alpha=None if alpha == inference.DEFAULT_ALPHA else alpha,
    tile=_setting('tile', options_lib.parse_tile, settings.tile),
    max_memory=_setting('max_memory', options_lib.parse_memory, settings.max_memory) if settings.max_memory else None,
    dtype=config.train.dtype,
    devices=_setting('devices', options_lib.parse_devices, settings.devices),
    metadata=_setting('metadata', options_lib.parse_metadata, settings.metadata),
    quality=_setting('quality', options_lib.parse_quality, settings.quality),
    recursive=settings.recursive,
    overwrite=settings.overwrite,
    report=pathlib.Path(settings.report) if settings.report else None,
  )
  import jax

  share = (jax.process_index(), jax.process_count())
  return restore([pathlib.Path(settings.input)], pathlib.Path(settings.output), options, share=share)


def _setting(name: str, parse: Callable[[str], Any], value: Any) -> Any:
  try:
    return parse(str(value))
  except ValueError as error:
    raise ValueError(f'restore.{name}: {error}') from error


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
  """Runs `lh-restore`.

  Args:
    argv: its arguments; None takes those of the process.
    own_process: see `restore`.

  Returns:
    The exit code, see `restore`. A usage error ends the process with 2.
  """
  parser = options_lib.parser()
  found = vars(parser.parse_args(argv))
  inputs, output = found.pop('inputs'), found.pop('output')
  try:
    return restore(inputs, output, options_lib.Options(**found), own_process=own_process)
  except (ValueError, OSError) as error:
    log.debug('Traceback:', exc_info=True)
    parser.error(str(error))
  except KeyboardInterrupt:
    return INTERRUPTED


def run() -> int:
  """Runs `lh-restore` in a process of its own: the console command."""
  return main(own_process=True)


if __name__ == '__main__':
  sys.exit(run())
