"""What became of every file: a record each, totals, and the report as JSON."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import json
from pathlib import Path
from typing import Any

from lh_jax.data import unfinished

STATUSES = ('restored', 'skipped', 'failed')  # a record without any of them was not reached
STEPS = ('read', 'restore', 'write')


@dataclasses.dataclass
class Record:
  """One file, filled in as it is worked on.

  Attributes:
    source: the file that is read.
    target: the file that is written.
    notes: what a user should know: conversions, smaller tiles.
    status: one of `STATUSES`, None as long as the file is not done.
    size: (width, height) in pixels.
    bits: per channel.
    seconds: that each of `STEPS` took.
    window: pixels (height, width) that were computed at once; None where that was the whole image.
    alpha: fidelity that it was restored with.
    error: the reason of a failure.
  """

  source: Path
  target: Path
  notes: list[str] = dataclasses.field(default_factory=list)
  status: str | None = None
  size: tuple[int, int] | None = None
  bits: int | None = None
  seconds: dict[str, float] = dataclasses.field(default_factory=dict)
  window: tuple[int, int] | None = None
  alpha: float | None = None
  error: str | None = None

  def fail(self, error: Exception) -> None:
    """Notes a failure. What people cause speaks for itself; anything else is named by its type too."""
    expected = isinstance(error, (ValueError, OSError, MemoryError, FloatingPointError))
    text, name = str(error), type(error).__name__
    self.status, self.error = 'failed', text if expected and text else f'{name}: {text}' if text else name

  def failure(self) -> str:
    """Returns file and reason as one line; the reason often names the file by itself."""
    return self.error if str(self.source) in self.error else f'{self.source}: {self.error}'

  def to_json(self) -> dict[str, Any]:
    """Returns the record as it stands in the report."""
    width, height = self.size or (None, None)
    return {
      'input': str(self.source),
      'output': str(self.target),
      'status': self.status,
      'width': width,
      'height': height,
      'bits': self.bits,
      'seconds': {step: round(self.seconds[step], 3) for step in STEPS if step in self.seconds},
      'window': None if self.window is None else dict(zip(('height', 'width'), self.window)),
      'alpha': self.alpha,
      'notes': self.notes,
      'error': self.error,
    }


def totals(records: Sequence[Record]) -> dict[str, int]:
  """Returns how many files there are, how many of each status, and how many were not reached."""
  counts = collections.Counter(record.status for record in records)
  return {'files': len(records)} | {name: counts[name] for name in STATUSES} | {'not_reached': counts[None]}


def check(path: Path, suffix: str = '.json') -> None:
  """Checks that a report can be written, by beginning one; makes its folder.

  Raises:
    ValueError: its name does not end in `suffix`, so that it might be a photograph's.
    OSError: it cannot be written.
  """
  if path.suffix.lower() != suffix:
    raise ValueError(f'The report {path} must have a name that ends in {suffix}.')
  if path.is_dir():
    raise IsADirectoryError(f'The report {path} is a folder: name a file.')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    trial = unfinished.name_beside(path)
    trial.touch()
    trial.unlink()
  except OSError as error:
    raise OSError(f'The report {path} cannot be written: {error.strerror or error}.') from error


def write(path: Path, header: Mapping[str, Any], records: Sequence[Record]) -> None:
  """Writes a report, which appears whole or not at all: the header, the totals, and the files that were reached."""
  files = [record.to_json() for record in records if record.status is not None]
  text = json.dumps({**header, 'totals': totals(records), 'files': files}, indent=2, ensure_ascii=False)
  unfinished.remove_leftovers(path.parent)
  with unfinished.replacing(path) as begun:
    # A file's name need not be valid Unicode; Python's escapes of what is not are JSON's too.
    begun.write_text(text + '\n', encoding='utf-8', errors='backslashreplace')
