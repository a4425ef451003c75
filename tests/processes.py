"""Several processes that compute together over gloo, each with virtual devices of its own."""

import os
import re
import socket
import subprocess
import sys

from tests.conftest import ROOT

TIMEOUT = 400.0

# A process that fails leaves at once, as lh_jax.main does, and one that hangs says where.
_PREAMBLE = """
import faulthandler, os, sys, traceback
sys.path.insert(0, ROOT)
faulthandler.dump_traceback_later(TIMEOUT - 20, exit=True)
say = lambda *words: print('SAYS', ' '.join(map(str, words)).replace(chr(10), ' | '), flush=True)
sys.excepthook = lambda *error: (traceback.print_exception(*error), sys.stderr.flush(), os._exit(1))
from lh_jax import hosts, logs
logs.to_console()
hosts.start(start='auto', coordinator='', count=None, index=None, timeout_seconds=120)
from tests import conftest
"""


def free_port() -> int:
  """Returns a port that nobody listens on."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return probe.getsockname()[1]


def begin(code: str, *arguments, count: int = 2, devices: int = 4) -> list[subprocess.Popen]:
  """Starts `count` processes that run `code`, which has `conftest`, `hosts`, `say` and sys.argv[1:]."""
  address = f'127.0.0.1:{free_port()}'
  flags = os.environ['XLA_FLAGS'].replace('device_count=8', f'device_count={devices}')
  return [
    subprocess.Popen(
      [
        sys.executable,
        '-c',
        _PREAMBLE.replace('ROOT', repr(str(ROOT))).replace('TIMEOUT', str(TIMEOUT)) + code,
        *map(str, arguments),
      ],
      env=os.environ
      | {
        'XLA_FLAGS': flags,
        'JAX_COORDINATOR_ADDRESS': address,
        'JAX_NUM_PROCESSES': str(count),
        'JAX_PROCESS_ID': str(process),
      },
      text=True,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
    )
    for process in range(count)
  ]


def end(processes: list[subprocess.Popen], *, code: int = 0) -> list[tuple[list[str], str]]:
  """Waits for all processes; returns the lines that each has said, and what stands on its standard error.

  Raises:
    AssertionError: one has not ended with `code`.
  """
  try:
    written = [process.communicate(timeout=TIMEOUT) for process in processes]
  finally:
    for process in processes:
      process.kill()
  assert [process.returncode for process in processes] == [code] * len(processes), [err[-3000:] for _, err in written]
  # Gloo writes to standard output too, across other lines.
  return [(re.findall('SAYS (.*)', out), err) for out, err in written]


def run(code: str, *arguments, count: int = 2, devices: int = 4) -> list[tuple[list[str], str]]:
  """Runs processes as `begin` and `end` do."""
  return end(begin(code, *arguments, count=count, devices=devices))
