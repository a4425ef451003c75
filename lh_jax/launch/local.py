"""One machine: one process that drives all its devices, or several that talk over 127.0.0.1, as hosts of a pod would.

Several processes are for trying what happens between hosts. Their lines of output carry their index; where one fails
the others are ended, for they would wait for it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

from lh_jax.launch import plans

# What JAX tells processes apart by: address and port of the first, how many, which.
_OF_PROCESSES = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
DEVICE_COUNT = '--xla_force_host_platform_device_count='


@dataclasses.dataclass(frozen=True)
class Process:
  """One process: its command, and what is set in its environment beside what is there."""

  argv: list[str]
  environment: dict[str, str]

  def shell(self) -> str:
    """Returns the command for a shell."""
    words = [f'{name}={value}' for name, value in self.environment.items()] + self.argv
    return shlex.join(['env', *words] if self.environment else words)


def add_options(parser: argparse.ArgumentParser) -> None:
  """Adds the options of this target."""
  count = plans.check_positive
  parser.add_argument(
    '--processes', type=count, default=1, help='default %(default)s, which drives all devices by itself'
  )
  parser.add_argument(
    '--devices-per-process',
    type=count,
    help='GPUs, or virtual devices of the CPU; default all, or 1 of several processes',
  )
  parser.add_argument(
    '--platform', choices=('auto', 'cpu', 'gpu'), default='auto', help='auto: NVIDIA GPUs where there are any'
  )
  parser.add_argument('--port', type=count, help='that process 0 listens on; default a free one')
  parser.add_argument(
    '--grace-seconds',
    type=count,
    default=60,
    help='between asking processes to end, where one has failed, and killing them; default %(default)s',
  )


def processes(options: argparse.Namespace, command: list[str]) -> list[Process]:
  """Returns what would be started.

  Args:
    options: parsed options.
    command: what every process runs.

  Raises:
    ValueError: there are fewer GPUs than asked for, or a variable is set that the processes are told apart by.
  """
  count, devices = options.processes, options.devices_per_process
  if count > 1 and devices is None:
    devices = 1
  gpu = options.platform == 'gpu' or (options.platform == 'auto' and any(Path('/dev').glob('nvidia[0-9]*')))
  port = options.port or (free_port() if count > 1 else None)
  clash = sorted({name for name, _ in options.env} & set(_OF_PROCESSES))
  if count > 1 and clash:
    raise ValueError(f'--env cannot set {", ".join(clash)}, which differ between the processes of --processes={count}')
  result = []
  for index in range(count):
    environment = dict(options.env)
    if count > 1 or options.platform != 'auto' or devices:
      environment.setdefault('JAX_PLATFORMS', 'cuda,cpu' if gpu else 'cpu')
    if devices and gpu:
      visible = environment.get('CUDA_VISIBLE_DEVICES', os.environ.get('CUDA_VISIBLE_DEVICES'))
      names = _gpus(count * devices, visible)[index * devices : (index + 1) * devices]
      environment['CUDA_VISIBLE_DEVICES'] = ','.join(names)
    elif devices:
      flags = environment.get('XLA_FLAGS', os.environ.get('XLA_FLAGS', '')).split()
      kept = [flag for flag in flags if not flag.startswith(DEVICE_COUNT)]
      environment['XLA_FLAGS'] = ' '.join([*kept, f'{DEVICE_COUNT}{devices}'])
    if count > 1:
      if not gpu:
        environment['JAX_CPU_COLLECTIVES_IMPLEMENTATION'] = 'gloo'
      environment |= dict(zip(_OF_PROCESSES, (f'127.0.0.1:{port}', str(count), str(index))))
    result.append(Process(command, environment))
  return result


def _gpus(count: int, visible: str | None) -> list[str]:
  """Returns the first `count` GPUs of those that CUDA_VISIBLE_DEVICES names; None names all."""
  names = [str(index) for index in range(count)] if visible is None else visible.split(',')
  if len(names) < count:
    raise ValueError(f'processes x devices-per-process needs {count} GPUs; CUDA_VISIBLE_DEVICES={visible} has fewer')
  return names[:count]


def free_port() -> int:
  """Returns a port of 127.0.0.1 that nobody listens on."""
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


def shell(several: list[Process]) -> str:
  """Returns what starts the same processes when it is pasted into a shell.

  That neither names their lines nor ends the others where one fails.
  """
  if len(several) == 1:
    return several[0].shell()
  return '\n'.join([*(f'{process.shell()} &' for process in several), 'wait'])


def start(several: list[Process], *, grace_seconds: float) -> int:
  """Runs the processes to their end and returns the first exit code that is not 0, or 0.

  SIGINT, SIGTERM and SIGHUP are passed on, and the processes are waited for.

  Args:
    several: what to start; one alone takes the place of this process.
    grace_seconds: between SIGTERM and SIGKILL for the others, where one has failed.

  Raises:
    ValueError: there is no such program.
  """
  if len(several) == 1:
    sys.stdout.flush()
    try:
      os.execvpe(several[0].argv[0], several[0].argv, os.environ | several[0].environment)
    except FileNotFoundError:
      raise ValueError(f'there is no program {several[0].argv[0]}') from None
  signals: list[int] = []
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) is not signal.SIG_IGN:
      signal.signal(number, lambda number, frame: signals.append(number))
  running: dict[int, subprocess.Popen] = {}
  readers = []
  try:
    for index, process in enumerate(several):
      running[index] = _popen(process)
      readers.append(threading.Thread(target=_copy, args=(index, running[index]), daemon=True))
      readers[-1].start()
    return _wait(running, signals, grace_seconds)
  finally:
    for child in running.values():
      _kill(child)
    for reader in readers:
      reader.join(timeout=5)


def _popen(process: Process) -> subprocess.Popen:
  try:
    # In a session of its own, so that Ctrl-C reaches it once: from here.
    return subprocess.Popen(
      process.argv,
      env=os.environ | {'PYTHONUNBUFFERED': '1'} | process.environment,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      errors='replace',
      start_new_session=True,
    )
  except FileNotFoundError:
    raise ValueError(f'there is no program {process.argv[0]}') from None


def _copy(index: int, child: subprocess.Popen) -> None:
  """Copies the output of a process, its index before every line."""
  for line in child.stdout:
    try:
      sys.stdout.write(f'[{index}] {line}' if line.endswith('\n') else f'[{index}] {line}\n')
      sys.stdout.flush()
    except OSError:
      continue  # Nobody reads any more; the process must not stop for that.


def _wait(running: dict[int, subprocess.Popen], signals: list[int], grace_seconds: float) -> int:
  """Waits for all; removes from `running` what has ended."""
  first, asked, deadline = 0, False, None
  while running:
    time.sleep(0.05)
    while signals:
      asked, number = True, signals.pop(0)
      for child in running.values():
        child.send_signal(number)
    for index, child in list(running.items()):
      if child.poll() is not None:
        del running[index]
        code = child.returncode if child.returncode >= 0 else 128 - child.returncode
        print(f'[{index}] ended with exit code {code}', flush=True)
        first = first or code
    if first and deadline is None:
      deadline = time.monotonic() + grace_seconds
      for child in [] if asked else running.values():
        child.terminate()
    if deadline is not None and time.monotonic() > deadline:
      for child in running.values():
        _kill(child)
  return first


def _kill(child: subprocess.Popen) -> None:
  """Kills a process with what it has started."""
  if child.poll() is None:
    os.killpg(child.pid, signal.SIGKILL)
