"""Files that appear whole or not at all: written under a hidden name beside their place, then renamed.

The hidden name tells the machine and the process that write it, so that what a killed process left behind can be told
from what another one is writing right now.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import platform
import re
import time
import uuid
import zlib

import psutil

_NAME = re.compile(r'\.lh_jax-([0-9a-f]{8})-([0-9]+)-[0-9a-f]{32}\.tmp')
# On another machine, or in a container that is gone, no process can be looked up; but nothing is written for so long.
_OLD = 24 * 3600.0


def name_beside(path: str | Path) -> Path:
  """Returns a new hidden name in the folder of `path`; its length does not depend on the name's."""
  return Path(path).with_name(f'.lh_jax-{_machine()}-{os.getpid()}-{uuid.uuid4().hex}.tmp')


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
  """Gives a new hidden name to write to, which takes the place of `path` at the end, and is gone after an error."""
  begun = name_beside(path)
  try:
    yield begun
    os.replace(begun, path)
  finally:
    begun.unlink(missing_ok=True)


def remove_leftovers(folder: str | Path) -> int:
  """Removes the unfinished files of processes that are gone from a folder, not from those below it.

  What cannot be listed or removed stays: it is hidden, and in nobody's way.

  Returns:
    How many files were removed.
  """
  removed = 0
  try:
    names = os.listdir(folder)
  except OSError:
    return 0
  for name in names:
    match = _NAME.fullmatch(name)
    try:
      if match and _is_left(Path(folder, name), machine=match[1], process=int(match[2])):
        os.unlink(Path(folder, name))
        removed += 1
    except OSError:
      continue
  return removed


def _is_left(path: Path, *, machine: str, process: int) -> bool:
  if machine == _machine():
    return not psutil.pid_exists(process)
  return time.time() - path.stat().st_mtime > _OLD


def _machine() -> str:
  return f'{zlib.crc32(platform.node().encode()):08x}'
