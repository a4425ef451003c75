"""What the launcher starts in its tests: `python -m tests.launch.child WHAT [FOLDER] [anything]`.

show: prints its arguments and variables. fail: waits for all others, then exits with 3. wait: until SIGTERM or SIGINT,
which it reports, then exits with 143. stubborn: the same, but it does not end.
"""

import json
import os
import pathlib
import signal
import sys
import time

NAMES = ('JAX_PLATFORMS', 'XLA_FLAGS', 'JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID', 'ADDED')


def main(what: str, folder: str = '.', *rest: str) -> None:
  index, count = int(os.environ.get('JAX_PROCESS_ID', 0)), int(os.environ.get('JAX_NUM_PROCESSES', 1))
  if what == 'show':
    shown = {'arguments': rest, 'variables': {name: os.environ.get(name) for name in NAMES}}
    sys.stdout.write(json.dumps(shown) + '\n')  # At once, for another process writes to the same place.
    sys.exit(int(os.environ.get('CODE', 0)))
  received = []
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: received.append(number))
  folder = pathlib.Path(folder)
  (folder / f'ready{index}').touch()
  deadline = time.monotonic() + 60
  while time.monotonic() < deadline:
    time.sleep(0.02)
    if what.startswith('fail') and index == 0 and len(list(folder.glob('ready*'))) == count:
      sys.exit(3)
    if received and what != 'fail-stubborn':
      print(f'saved after {signal.Signals(received[0]).name}')
      sys.exit(143)


if __name__ == '__main__':
  main(*sys.argv[1:])
