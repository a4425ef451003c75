"""`python -m lh_jax.synthesis`: sets, sheet, exit codes, usage errors."""

import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from lh_jax.data import image_files
from lh_jax.synthesis import __main__ as command
from tests.conftest import ROOT


@pytest.fixture(name='photographs')
def _photographs(tmp_path):
  (tmp_path / 'photographs').mkdir()
  image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
  Image.fromarray(image).save(tmp_path / 'photographs' / 'a.png')
  return tmp_path / 'photographs'


def test_writes_sets_and_a_sheet(photographs, tmp_path, capsys):
  sheet = tmp_path / 'sheet.jpg'
  arguments = [photographs, tmp_path / 'out', '--tasks', 'noise25', '--size', '20x16', '--sheet', sheet]
  assert command.main([str(argument) for argument in arguments]) == 0
  assert image_files.size(tmp_path / 'out' / 'noise25' / 'input' / 'a.png') == (16, 20)
  assert sheet.read_bytes()[:2] == b'\xff\xd8' and image_files.size(sheet)[1] > 5 * 20
  assert 'wrote 1 pairs' in capsys.readouterr().out
  assert command.main([str(argument) for argument in arguments[:-2]]) == 0
  assert '0 of 1 pairs written' in capsys.readouterr().out


def test_a_sheet_alone_shows_an_embedded_photograph(tmp_path):
  assert command.main(['--tasks', 'noise25', '--sheet', str(tmp_path / 'sheet.png')]) == 0
  assert image_files.size(tmp_path / 'sheet.png')[1] > 900


def test_a_damaged_photograph_makes_the_exit_status_1(photographs, tmp_path, capsys):
  path = photographs / 'a.png'
  path.write_bytes(path.read_bytes()[:-500])
  assert command.main([str(photographs), str(tmp_path / 'out'), '--tasks', 'noise25']) == 1
  assert 'a.png failed: cannot read image file' in capsys.readouterr().out


@pytest.mark.parametrize('damage', [b'no image', None])
def test_the_other_photographs_are_written(photographs, tmp_path, capsys, damage):
  """With a broken first photograph, of which not even the header, or only the header, can be read."""
  whole = (photographs / 'a.png').read_bytes()
  (photographs / 'b.png').write_bytes(whole)
  (photographs / 'a.png').write_bytes(damage or whole[:-500])
  sheet = tmp_path / 'sheet.png'
  arguments = [str(photographs), str(tmp_path / 'out'), '--tasks', 'noise25', '--sheet', str(sheet)]
  assert command.main(arguments) == 1
  printed = capsys.readouterr()
  assert sheet.is_file() and (tmp_path / 'out' / 'noise25' / 'gt' / 'b.png').is_file()
  assert 'wrote 1 pairs' in printed.out and '1 photographs failed' in printed.out and 'usage' not in printed.err
  (photographs / 'b.png').write_bytes(b'')
  assert command.main(arguments) == 1
  assert 'can be read for the contact sheet' in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_no_usage_error(photographs, tmp_path, capsys):
  (tmp_path / 'out').write_text('a file')
  assert command.main([str(photographs), str(tmp_path / 'out'), '--tasks', 'noise25']) == 1
  assert capsys.readouterr().err.startswith('error: ')


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'nothing to write: name OUT, or a contact sheet with --sheet'),
    (['--sheet', 'sheet.gif'], "cannot write a contact sheet to 'sheet.gif': end it in .png or .jpg"),
    (['PHOTOGRAPHS', 'PHOTOGRAPHS/out'], 'lies in the folder of photographs and would be read as some'),
    (['PHOTOGRAPHS', 'PHOTOGRAPHS'], 'lies in the folder of photographs'),
    (['nowhere', 'out'], "'nowhere' is no folder of photographs"),
    (['PHOTOGRAPHS', 'out', '--seed', '-1'], 'seed is -1'),
    (['PHOTOGRAPHS', 'out', '--tasks', 'fog'], 'cannot synthesise fog'),
    (['PHOTOGRAPHS', 'out', '--size', '20'], "'20' is no image size"),
    (['PHOTOGRAPHS', 'out', '--severity', '2'], 'severity is 2.0'),
  ],
)
def test_usage_errors(photographs, tmp_path, capsys, monkeypatch, arguments, message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit) as caught:
    command.main([argument.replace('PHOTOGRAPHS', str(photographs)) for argument in arguments])
  assert caught.value.code == 2 and message in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()


def test_help_tells_every_strength():
  result = subprocess.run(
    [sys.executable, '-m', 'lh_jax.synthesis', '--help'], capture_output=True, text=True, check=True, cwd=ROOT
  )
  assert 'noise25+blur: blur, then noise25' in result.stdout
