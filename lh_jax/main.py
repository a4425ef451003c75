"""Flags and dispatch, nothing else.

python -m lh_jax.main --config=FILE[:ARG] --workdir=DIR [--mode=train|evaluate|restore] [--config.KEY=VALUE ...]
"""

from __future__ import annotations

import logging
import os
import sys
import traceback

from absl import app
from absl import flags
import jax
from ml_collections import config_flags

from lh_jax import evaluate
from lh_jax import hosts
from lh_jax import logs
from lh_jax import parallel
from lh_jax import preemption
from lh_jax import restore
from lh_jax import storage
from lh_jax import train
from lh_jax.data import pipeline

log = logging.getLogger('lh_jax')

FAILURES = (
  ValueError,
  OSError,
  logs.TrainingDivergedError,
  parallel.OtherProcessError,
  pipeline.DataStalledError,
)

CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Configuration file, with an optional argument after a colon.', lock_config=True
)
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Directory of the run, also gs://...: checkpoints, metrics, export, results.'
)
MODE = flags.DEFINE_enum('mode', 'train', ['train', 'evaluate', 'restore'], 'What to do.')


def main(argv: list[str]) -> None:
  """Runs one mode; a mistake in the input ends with one line and exit code 1."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}. Options are written --config.KEY=VALUE.')
  logs.to_console()
  config, workdir = CONFIG.value, storage.path(WORKDIR.value)
  parallel.enable_compilation_cache()
  try:
    hosts.start(**config.hosts)
    log.info('JAX %s on %d %s device(s).', jax.__version__, jax.device_count(), jax.default_backend())
    hosts.agree_on_run(config, WORKDIR.value)
    if MODE.value == 'train':
      if config.evaluate.after_training:
        hosts.together(lambda: evaluate.open_sets(config))  # Its mistakes must not wait until training has ended.
      train.train(config, workdir)
    preemption.end_at_once()
    if MODE.value == 'evaluate' or (MODE.value == 'train' and config.evaluate.after_training):
      evaluate.evaluate(config, workdir)
    if MODE.value == 'restore':
      sys.exit(restore.restore_config(config, workdir))
  except preemption.Preempted as notice:
    log.warning('%s', notice)
    sys.exit(preemption.EXIT_CODE)
  except FAILURES as error:
    log.debug('Traceback:', exc_info=True)
    print(f'lh_jax: {error}', file=sys.stderr, flush=True)
    if jax.process_count() > 1 or isinstance(error, pipeline.DataStalledError):
      os._exit(1)  # At the end of a process, Python waits for threads that hang, and JAX for the other processes.
    sys.exit(1)
  except Exception:
    if jax.process_count() > 1:
      traceback.print_exc()
      os._exit(1)
    raise


def run() -> None:
  """Parses the flags and runs `main`."""
  flags.mark_flags_as_required(['config', 'workdir'])
  app.run(main)


if __name__ == '__main__':
  run()
