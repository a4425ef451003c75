"""Records, totals, and the report file."""

import json
from pathlib import Path

import pytest

from lh_jax import reports
from lh_jax.data import unfinished


def test_a_reason_names_its_file_once():
  record = reports.Record(Path('a.png'), Path('b.png'))
  record.fail(ValueError("cannot read image file 'a.png': it is empty"))
  assert record.failure() == record.error == "cannot read image file 'a.png': it is empty"
  record.fail(FloatingPointError('not finite'))
  assert record.failure() == 'a.png: not finite' and record.status == 'failed'


@pytest.mark.parametrize(
  'error, text',
  [(MemoryError(), 'MemoryError'), (KeyError('x'), "KeyError: 'x'"), (MemoryError('too small'), 'too small')],
)
def test_unexpected_errors_are_named_by_type(error, text):
  record = reports.Record(Path('a.png'), Path('b.png'))
  record.fail(error)
  assert record.error == text


def test_report(tmp_path):
  path = tmp_path / 'new' / 'report.json'
  reports.check(path)
  assert list(path.parent.iterdir()) == []
  name = b'\xe4\xc3\xb6.png'.decode('utf-8', 'surrogateescape')  # half Latin-1, as old archives have it
  done = reports.Record(
    Path(name), Path('b ö.png'), ['note'], 'restored', (4, 3), 16, {'read': 0.12345, 'write': 1.0}, (24, 48), 0.5
  )
  failed = reports.Record(Path('c.png'), Path('c.png'), status='failed', error='reason')
  waiting = reports.Record(Path('d.png'), Path('d.png'))
  reports.write(path, {'lh_jax': '1'}, [done, failed, waiting])
  found = json.loads(path.read_text('utf-8'))
  assert found['lh_jax'] == '1'
  assert found['totals'] == {'files': 3, 'restored': 1, 'skipped': 0, 'failed': 1, 'not_reached': 1}
  assert found['files'][0] == {
    'input': name,
    'output': 'b ö.png',
    'status': 'restored',
    'width': 4,
    'height': 3,
    'bits': 16,
    'seconds': {'read': 0.123, 'write': 1.0},
    'window': {'height': 24, 'width': 48},
    'alpha': 0.5,
    'notes': ['note'],
    'error': None,
  }
  assert [row['error'] for row in found['files']] == [None, 'reason']
  assert list(path.parent.iterdir()) == [path]


def test_a_report_that_fails_leaves_the_old_one(tmp_path):
  path = tmp_path / 'report.json'
  path.write_text('old')
  with pytest.raises(TypeError):
    reports.write(path, {'no JSON': object()}, [])
  assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_reports_that_cannot_be_written(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match='must have a name that ends in .json'):
    reports.check(tmp_path / 'a.png')
  (tmp_path / 'folder.json').mkdir()
  with pytest.raises(IsADirectoryError, match='folder.json is a folder: name a file'):
    reports.check(tmp_path / 'folder.json')
  (tmp_path / 'file').touch()
  with pytest.raises(OSError, match='report.json cannot be written: '):
    reports.check(tmp_path / 'file' / 'report.json')
  monkeypatch.setattr(unfinished, 'name_beside', lambda path: tmp_path / 'gone' / 'x.tmp')
  with pytest.raises(OSError, match='report.json cannot be written: No such file'):
    reports.check(tmp_path / 'report.json')
