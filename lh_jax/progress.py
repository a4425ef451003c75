"""A progress bar over pixels, which makes its estimate right for photographs of mixed sizes.

It is drawn on a terminal only; elsewhere, and where it is not wanted, everything here does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import logging
from pathlib import Path
import sys

from tqdm import tqdm
from tqdm.contrib import logging as tqdm_logging

from lh_jax.data import image_files

LOGGER = 'lh_jax'  # whose lines are printed above the bar
MAX_NAME = 32  # characters of a file's name beside the bar


def wanted() -> bool:
  """Whether standard error is a terminal."""
  return sys.stderr is not None and sys.stderr.isatty()


class Bar:
  """The bar; a context manager, during which log lines are printed above it."""

  def __init__(self, files: Sequence[Path], *, shown: bool):
    """Reads the sizes of the files from their headers, where the bar is shown.

    Args:
      files: images that are going to be restored; those that cannot be read count for nothing.
      shown: see `wanted`.
    """
    self.shown = shown
    self._pixels = {path: _pixels(path) for path in files} if shown else {}
    self._file, self._done = None, 0
    self._stack = contextlib.ExitStack()
    # Little smoothing: windows of one image differ in what they cost.
    self._bar = tqdm(
      total=sum(self._pixels.values()),
      disable=not shown,
      unit='px',
      unit_scale=True,
      smoothing=0.1,
      dynamic_ncols=True,
      file=sys.stderr,
    )

  def __enter__(self) -> Bar:
    self._stack.enter_context(self._bar)
    if self.shown:
      self._stack.enter_context(tqdm_logging.logging_redirect_tqdm([logging.getLogger(LOGGER)]))
    return self

  def __exit__(self, *exception) -> None:
    self._stack.close()

  def begin(self, path: Path, number: str) -> None:
    """Turns to one of the files.

    Args:
      path: the file.
      number: such as '3/10', to show.
    """
    self._file, self._done = path, 0
    name = path.name if len(path.name) <= MAX_NAME else path.name[: MAX_NAME // 2] + '…' + path.name[-MAX_NAME // 2 :]
    self._bar.set_description(f'{number} {name}')

  def at(self, share: float) -> None:
    """Shows that this share of the file is done, 0 to 1; it may go back."""
    done = round(share * self._pixels.get(self._file, 0))
    self._bar.update(done - self._done)
    self._done = done

  def drop(self, path: Path) -> None:
    """Takes a file that is not restored after all out of the count, so that it does not look like speed."""
    if path == self._file:
      self.at(0.0)
    self._bar.total -= self._pixels.pop(path, 0)
    self._bar.refresh()


class Count:
  """A bar over things to be done, whose number becomes known on the way; a context manager, called with both."""

  def __init__(self, unit: str, *, shown: bool, scaled: bool = False):
    """Makes the bar.

    Args:
      unit: what is counted.
      shown: see `wanted`.
      scaled: whether to write 1.5M for 1 500 000.
    """
    self._bar = tqdm(disable=not shown, unit=unit, unit_scale=scaled, dynamic_ncols=True, file=sys.stderr)

  def __enter__(self) -> Count:
    self._bar.__enter__()
    return self

  def __exit__(self, *exception) -> None:
    self._bar.close()

  def __call__(self, done: int, total: int) -> None:
    """Shows that `done` of `total` are done."""
    self._bar.total = total
    self._bar.update(done - self._bar.n)


def _pixels(path: Path) -> int:
  try:
    height, width = image_files.size(path)
  except Exception:  # The reason is told when the file's turn comes.
    return 0
  return height * width
