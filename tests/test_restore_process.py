"""lh-restore killed and continued, interrupted, and on a terminal."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time

import numpy as np
import pytest

from lh_jax.data import image_files

from tests.conftest import ROOT

TIMEOUT = 120.0
COUNT = 6

# lh-restore with a model that turns images into their negatives, and what a test wants to happen.
STAND_IN = """
import os, signal, sys, time
import numpy as np
from lh_jax import inference, restore

class Negative:
  def run(self, image, *, progress, **options):
    for share in (0.25, 0.5, 1.0):
      time.sleep(PAUSE / 3)
      progress(share)
    return inference.Restored(255 - image, None, ())

inference.Restorer.from_pretrained = lambda *args, **options: Negative()
# A shell may have started these tests with interrupts ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
EXTRA
sys.exit(restore.run())
"""

KILL_AT_THIRD = """
rename, seen = os.replace, []
def killed_at_third(source, target):
  seen.append(target)
  if len(seen) == 3:
    os.kill(os.getpid(), signal.SIGKILL)
  rename(source, target)
os.replace = killed_at_third
"""


@pytest.fixture(name='folders')
def _folders(tmp_path):
  source, out = tmp_path / 'in', tmp_path / 'out'
  for value in range(COUNT):
    image_files.write_image(source / f'{value}.png', np.full((40, 60, 3), value, np.uint8))
  return source, out


def start(folders, *options, pause=0.0, extra='', **streams):
  source, out = folders
  code = STAND_IN.replace('PAUSE', repr(pause)).replace('EXTRA', extra)
  command = [sys.executable, '-c', code, str(source), '-o', str(out), *options]
  return subprocess.Popen(command, cwd=ROOT, env=os.environ | {'PYTHONPATH': str(ROOT)}, text=True, **streams)


def visible(folder):
  return sorted(path.name for path in folder.iterdir() if not path.name.startswith('.'))


def test_a_killed_run_is_continued(folders):
  """Killed when the third file is complete but not yet in its place, which is the worst moment."""
  source, out = folders
  report = out.parent / 'report.json'
  assert start(folders, extra=KILL_AT_THIRD).wait(TIMEOUT) == -signal.SIGKILL
  assert visible(out) == ['0.png', '1.png']
  assert [path for path in out.iterdir() if path.name.startswith('.')]
  before = {path: path.stat().st_mtime_ns for path in out.glob('*.png')}
  assert start(folders, '--report', str(report)).wait(TIMEOUT) == 0
  assert visible(out) == visible(source)
  for value in range(COUNT):
    assert (image_files.read_rgb(out / f'{value}.png') == 255 - value).all()
  assert all(path.stat().st_mtime_ns == then for path, then in before.items())
  assert [row['status'] for row in json.loads(report.read_text())['files']] == 2 * ['skipped'] + 4 * ['restored']
  assert len(list(out.iterdir())) == COUNT, 'what the killed run left is still there'


def test_an_interrupt_stops_cleanly(folders):
  source, out = folders
  report = out.parent / 'report.json'
  process = start(folders, '--report', str(report), pause=1.0, stderr=subprocess.PIPE)
  deadline = time.monotonic() + TIMEOUT
  while not out.exists() or not visible(out):
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.02)
  process.send_signal(signal.SIGINT)
  _, lines = process.communicate(timeout=TIMEOUT)
  assert process.returncode == 130
  assert 'Traceback' not in lines and 'Interrupted: ' in lines
  finished = visible(out)
  assert 1 <= len(finished) < COUNT and len(list(out.iterdir())) == len(finished)
  found = json.loads(report.read_text())
  assert found['interrupted'] and [row['status'] for row in found['files']] == ['restored'] * len(finished)
  assert found['totals']['not_reached'] == COUNT - len(finished)
  for name in finished:
    assert image_files.size(out / name) == (40, 60)


def test_a_bar_on_a_terminal(folders):
  """Troubles stand on lines of their own, and files that went well are not listed."""
  source, _ = folders
  (source / '1.png').write_bytes(b'')
  ours, theirs = pty.openpty()
  termios.tcsetwinsize(theirs, (24, 100))
  process = start(folders, pause=0.3, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL)
  os.close(theirs)
  shown = b''
  while True:
    try:
      part = os.read(ours, 2**16)
    except OSError:  # Linux's way to say that the other end is closed
      part = b''
    if not part:
      break
    shown += part
  os.close(ours)
  assert process.wait(TIMEOUT) == 1
  text = shown.decode()
  assert '6/6 5.png' in text and '100%' in text and '12.0k/12.0k' in text
  assert re.search(r'(^|[\r\n])[0-9:]{8} \[2/6\] failed: .*1.png.*it is empty\r?\n', text)
  assert '2.png ->' not in text and re.search(r'[\r\n]failed: ', text)
