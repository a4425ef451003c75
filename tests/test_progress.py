"""The progress bar on a terminal, and its absence elsewhere."""

import io
import logging
import re
import sys

import numpy as np
import pytest

from lh_jax import progress
from lh_jax.data import image_files


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture(name='files')
def _files(tmp_path):
  found = [tmp_path / name for name in ('a.png', 'b.png', 'broken.png')]
  for path, side in zip(found, (30, 10)):
    image_files.write_image(path, np.zeros((side, side, 3), np.uint8))
  found[2].write_bytes(b'no image')
  return found


def terminal_for(monkeypatch):
  """Called in the test itself: between fixtures and test, pytest puts its own standard error back."""
  terminal = Terminal()
  monkeypatch.setattr(sys, 'stderr', terminal)
  return terminal


def test_counts_pixels(files, monkeypatch):
  terminal = terminal_for(monkeypatch)
  assert progress.wanted()
  with progress.Bar(files, shown=True) as bar:
    assert bar._bar.total == 30 * 30 + 10 * 10
    bar.begin(files[0], '1/3')
    for share, done in ((0.5, 450), (0.9, 810), (0.36, 324), (1.0, 900)):  # back where memory ran out
      bar.at(share)
      assert bar._bar.n == done
    bar.begin(files[1], '2/3')
    bar.at(0.5)
    bar.drop(files[1])
    assert bar._bar.n == bar._bar.total == 900
    bar.drop(files[2])
    assert bar._bar.total == 900
  assert '1/3 a.png' in terminal.getvalue() and '900' in terminal.getvalue()


def test_long_names_are_shortened(tmp_path, monkeypatch):
  terminal = terminal_for(monkeypatch)
  path = tmp_path / ('x' * 60 + '.png')
  with progress.Bar([path], shown=True) as bar:
    bar.begin(path, '1/1')
  assert '1/1 xxxxxxxxxxxxxxxx…xxxxxxxxxxxx.png' in terminal.getvalue()


def test_log_lines_do_not_tear_the_bar(files, monkeypatch):
  terminal = terminal_for(monkeypatch)
  logger = logging.getLogger(progress.LOGGER)
  handler = logging.StreamHandler()
  monkeypatch.setattr(logger, 'handlers', [handler])
  monkeypatch.setattr(logger, 'level', logging.INFO)
  with progress.Bar(files, shown=True) as bar:
    bar.begin(files[0], '1/3')
    logging.getLogger('lh_jax.restore').warning('a line')
    bar.at(1.0)
  assert logger.handlers == [handler]
  # The bar is wiped before the line, and drawn again below it.
  assert re.search(r'\r *\ra line\n', terminal.getvalue())


def test_without_a_terminal_nothing_is_drawn_or_read(files, capsys):
  assert not progress.wanted()
  with progress.Bar([*files, files[0].with_name('nowhere.png')], shown=False) as bar:
    bar.begin(files[0], '1/3')
    bar.at(1.0)
    bar.drop(files[0])
  assert capsys.readouterr().err == ''


def test_counts_what_becomes_known_on_the_way(monkeypatch):
  terminal = terminal_for(monkeypatch)
  with progress.Count('img', shown=True) as bar:
    bar(1, 4)
    bar(4, 4)
    assert bar._bar.n == bar._bar.total == 4
  assert '4/4' in terminal.getvalue() and 'img' in terminal.getvalue()


def test_a_count_that_is_not_wanted_prints_nothing(monkeypatch):
  terminal = terminal_for(monkeypatch)
  with progress.Count('img', shown=False) as bar:
    bar(1, 4)
  assert not terminal.getvalue()
