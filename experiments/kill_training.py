"""Kills a training with SIGKILL at random moments and checks that nothing is lost.

    python experiments/kill_training.py --kills 100 -o experiments/results/kill_training.json

A tiny configuration, which saves after every step, is trained in a child process. The child is killed after a random
time, or as soon as a save is seen to have begun, and the same command is started again, until the run has ended; then
the next run begins, in a new folder, until there have been enough kills. The parameters that every run ends with must
be those of a run that nobody killed, bit for bit.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import pathlib
import random
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time

import jax

from lh_jax import exports
from lh_jax import logs
from lh_jax import parallel
from lh_jax import results
from lh_jax import train
import records
import scales

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Of a life, as shares of the seconds that a whole run takes; about a third of it is for Python, JAX and compiled programs
# to come from the cache.
SHORTEST, LONGEST = 0.02, 0.7
STEPS = 20
AT_A_SAVE = 0.4  # share of the lives that end at the beginning of a save
STAGE_LINE = re.compile(r'\bstage[12](:| \d+/\d+)')  # what a training's log says of a stage or a step


def config():
  """Returns the configuration: twenty steps of networks of the least width."""
  found = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  scales.shrink(found, 'dry')
  found.data.update({'tasks': ('low_light', 'noise25'), 'task_weights': (1.0, 1.0)})
  found.stage1.update({'steps': 8, 'crop_size': 32})
  found.stage2.update({'restorer_steps': 6, 'lora_steps': 6, 'alternate_steps': 2, 'crop_size': 32})
  found.train.update({'checkpoint_steps': 1, 'keep_checkpoints': 2, 'log_steps': 1})
  return found


def start(workdir: pathlib.Path) -> subprocess.Popen:
  """Starts or goes on with a training; its log goes into the work directory's neighbour."""
  with open(f'{workdir}.log', 'a', encoding='utf-8') as log:
    command = [sys.executable, __file__, '--train', str(workdir)]
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def unfinished(workdir: pathlib.Path) -> set[tuple]:
  """The folders of checkpoints that are not complete: orbax renames them when they are.

  A kill leaves them behind, and the next life removes them some time after its start: one that is there before a life
  begins tells nothing about it. A new one of the same name has another inode or time.
  """
  found = set()
  for path in workdir.glob('checkpoints/*/*.orbax-checkpoint-tmp*'):
    with contextlib.suppress(FileNotFoundError):  # complete by now
      stat = path.stat()
      found.add((path.name, stat.st_ino, stat.st_mtime_ns))
  return found


def began_with(line: str) -> str:
  """What a training does after it has written this last line of its log: '' is none."""
  if not line:
    return 'starting'
  compiles = any(words in line for words in (': starting;', ': resuming from', ': compiled the step'))
  return 'compiling' if compiles else 'stepping'


def live(workdir: pathlib.Path, rng: random.Random, *, peace: float) -> str | None:
  """Lets a training live for a random while, and kills it.

  Args:
    workdir: where it goes on.
    rng: of the moment.
    peace: seconds that a whole run takes.

  Returns:
    What it was doing when it was killed, as its folder and the last line of its log tell: 'starting' (up to the first
    line on a stage), 'compiling' (up to the first step's line), 'stepping' (all else, exports too) or 'saving'; None where
    it had ended by itself.

  Raises:
    RuntimeError: it failed.
  """
  log = pathlib.Path(f'{workdir}.log')
  before, at_a_save = unfinished(workdir), rng.random() < AT_A_SAVE
  read = log.stat().st_size if log.exists() else 0
  process = start(workdir)
  deadline = time.monotonic() + peace * (3.0 if at_a_save else rng.uniform(SHORTEST, LONGEST))
  while process.poll() is None and time.monotonic() < deadline:
    if at_a_save and unfinished(workdir) - before:
      time.sleep(rng.uniform(0.0, 0.02))
      break
    time.sleep(0.001 if at_a_save else 0.01)
  if process.poll() is None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    if unfinished(workdir) - before:
      return 'saving'
    lines = [line for line in log.read_bytes()[read:].decode().splitlines() if STAGE_LINE.search(line)]
    return began_with(lines[-1] if lines else '')
  if process.returncode != 0:
    raise RuntimeError(f'{workdir} failed with exit code {process.returncode}; see {workdir}.log.')
  return None


def equal(one: pathlib.Path, other: pathlib.Path) -> bool:
  """Whether two runs have exported the same parameters, bit for bit."""
  trees = [exports.load(workdir).params for workdir in (one, other)]
  return jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), *trees))


def torture(folder: pathlib.Path, *, kills: int, seed: int) -> dict:
  """Trains once in peace, then kills until there have been enough.

  Args:
    folder: where the runs go.
    kills: how many.
    seed: of the moments.

  Returns:
    What happened, for the result.
  """
  started = time.perf_counter()
  whole, again = folder / 'whole', folder / 'again'
  for workdir in (whole, again):  # The second finds its programs compiled, as those that are killed do.
    began = time.perf_counter()
    if start(workdir).wait() != 0:
      raise RuntimeError(f'The training that nobody kills failed; see {workdir}.log.')
    peace = time.perf_counter() - began
  if not equal(whole, again):
    raise RuntimeError('Two trainings that nobody kills end with other parameters.')
  rng, moments, runs = random.Random(seed), collections.Counter(), []
  while sum(moments.values()) < kills or (runs and not runs[-1]['ended']):
    if not runs or runs[-1]['ended']:
      runs.append({'kills': 0, 'ended': False})
    workdir = folder / f'run{len(runs)}'
    if sum(moments.values()) < kills:
      moment = live(workdir, rng, peace=peace)
    elif start(workdir).wait() == 0:
      moment = None
    else:
      raise RuntimeError(f'{workdir} failed; see {workdir}.log.')
    if moment is None:
      runs[-1].update({'ended': True, 'equal': equal(whole, workdir)})
    else:
      moments[moment] += 1
      runs[-1]['kills'] += 1
    print(f'{sum(moments.values())} kills {dict(moments)}, runs {runs[-1]}', flush=True)
  return {
    'kills': sum(moments.values()),
    'killed_while': dict(moments),
    'runs': len(runs),
    'kills_of_a_run': [run['kills'] for run in runs],
    'runs_equal_to_the_one_nobody_killed': sum(run['equal'] for run in runs),
    'damaged_checkpoints_set_aside': len(list(folder.glob('run*/checkpoints/*/damaged-*'))),
    'steps_of_a_run': STEPS,
    'seconds_of_a_run_in_peace': round(peace, 1),
    'seconds': round(time.perf_counter() - started, 1),
  }


def main() -> None:
  """Kills, prints what happened, and writes it."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--kills', type=int, default=100)
  parser.add_argument('--seed', type=int, default=0, help='of the moments')
  parser.add_argument('-o', '--output', type=pathlib.Path)
  parser.add_argument('--train', type=pathlib.Path, help=argparse.SUPPRESS)
  options = parser.parse_args()
  parallel.enable_compilation_cache()
  if options.train:
    logs.to_console()
    train.train(config(), options.train)
    return
  with tempfile.TemporaryDirectory() as folder:
    found = torture(pathlib.Path(folder), kills=options.kills, seed=options.seed)
  report = records.made_by() | {'seed': options.seed} | found
  print(json.dumps(report, indent=1))
  if options.output:
    results.write_json(options.output, report, indent=1)
  if found['runs_equal_to_the_one_nobody_killed'] != found['runs']:
    sys.exit('Something was lost.')


if __name__ == '__main__':
  main()
