"""Hidden names of files in the making, and what killed processes left."""

import os
import subprocess
import sys
import time

from lh_jax.data import image_files
from lh_jax.data import unfinished


def test_names(tmp_path):
  path = tmp_path / ('x' * 250 + '.png')
  first, second = unfinished.name_beside(path), unfinished.name_beside(path)
  assert first != second and first.parent == tmp_path and first.name.startswith('.')
  first.touch()
  assert image_files.list_images(tmp_path) == []


def test_only_what_is_left_is_removed(tmp_path):
  ended = subprocess.Popen([sys.executable, '-c', ''])
  ended.wait()
  mine = unfinished.name_beside(tmp_path / 'a.png')
  left = mine.with_name(mine.name.replace(f'-{os.getpid()}-', f'-{ended.pid}-'))
  machine = mine.name.split('-')[1]
  elsewhere = left.with_name(left.name.replace(machine, '00000000' if machine != '00000000' else '1' * 8))
  old = elsewhere.with_name(elsewhere.name.replace(f'-{ended.pid}-', '-1-'))
  others = [tmp_path / name for name in ('a.png', '.other.tmp', f'.lh_jax-{ended.pid}.tmp')]
  for path in (mine, left, elsewhere, old, *others):
    path.touch()
  two_days_ago = time.time() - 2 * 24 * 3600
  os.utime(old, (two_days_ago, two_days_ago))
  os.utime(mine, (two_days_ago, two_days_ago))
  assert unfinished.remove_leftovers(tmp_path) == 2
  assert sorted(tmp_path.iterdir()) == sorted([mine, elsewhere, *others])


def test_folders_and_files_that_cannot_be_touched_are_left(tmp_path, monkeypatch):
  assert unfinished.remove_leftovers(tmp_path / 'nowhere') == 0
  path = unfinished.name_beside(tmp_path / 'a.png')
  path.touch()
  monkeypatch.setattr(unfinished.psutil, 'pid_exists', lambda pid: False)

  def refuse(path):
    raise PermissionError(13, 'Permission denied')

  monkeypatch.setattr(os, 'unlink', refuse)
  assert unfinished.remove_leftovers(tmp_path) == 0 and path.exists()
