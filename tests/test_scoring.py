"""lh_jax.scoring: `lh-evaluate` from folders to table, result and exit code."""

import csv
import json
import os
import re
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from lh_jax import measure
from lh_jax import metrics
from lh_jax import protocols
from lh_jax import scoring
from lh_jax.metrics import fid
from lh_jax.metrics import niqe

from tests.conftest import ROOT

RNG = np.random.default_rng(0)


def write(path, pixels=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8) if pixels is None else pixels
  Image.fromarray(pixels).save(path)
  return np.asarray(Image.open(path).convert('RGB'))


@pytest.fixture(name='folders')
def _folders(tmp_path):
  for name in ('a', 'sub/b', 'c'):
    reference = write(tmp_path / 'gt' / f'{name}.png')
    write(tmp_path / 'out' / f'{name}.png', reference ^ 1)
  return tmp_path / 'out', tmp_path / 'gt'


def score(folders, *options):
  return scoring.main([*map(str, folders), '--lpips', 'none', *map(str, options)])


def test_scores_of_a_folder(folders, tmp_path):
  out, gt = folders
  jpeg = write(out / 'a.jpg')  # another kind of file, the same name
  (out / 'a.png').unlink()
  result, table, page = (tmp_path / 'new' / name for name in ('r.json', 'r.csv', 'r.html'))
  assert score(folders, '-o', result, '--csv', table, '--html', page) == 0
  report = json.loads(result.read_text())
  assert [entry['name'] for entry in report['files']] == ['a', 'c', 'sub/b'] and report['images'] == 3
  expected = metrics.evaluate_pair(jpeg, np.asarray(Image.open(gt / 'a.png')))
  for name, value in expected.items():
    assert report['files'][0][name] == pytest.approx(value, abs=1e-5)
    assert report['mean'][name] == pytest.approx(np.mean([entry[name] for entry in report['files']]))
  assert report['files'][1]['psnr_rgb'] == pytest.approx(48.13, abs=0.01)  # errors of one level
  assert report['protocol']['name'] == 'uhd' and report['protocol']['lpips_channels'] == 'rgb'
  assert set(report['not_computed']) == {'lpips_alex', 'niqe', 'fid'}
  assert report['missing'] == report['extra'] == report['failed'] == [] and not report['allow_missing']
  assert '1 of 3 restored images are JPEG' in report['notes'][0] and len(report['sha256']) == 64
  with open(table, newline='') as stream:
    lines = list(csv.DictReader(stream))
  assert [float(line['psnr_y']) for line in lines] == [entry['psnr_y'] for entry in report['files']]
  text = page.read_text()
  assert text.index('<b>a</b>') < text.index('<b>c</b>'), 'the worst comes first'


def test_the_table_is_printed(folders, capsys):
  assert score(folders, '--protocol', 'rgb') == 0
  printed = capsys.readouterr().out
  assert '| images | PSNR RGB (dB) | SSIM RGB | PSNR Y (dB) | SSIM Y | LPIPS Alex | LPIPS VGG | CIEDE2000 |' in printed
  assert '| 3 | 48.13 |' in printed and 'Protocol rgb, version 1.' in printed and 'LPIPS VGG is not computed' in printed


def test_niqe_and_fid(tmp_path, capsys, monkeypatch):
  """Of two folders; where a value of one image is missing, so is its mean, and nothing else."""
  niqe.save(tmp_path / 'pristine.npz', niqe.Model(np.zeros(niqe.FEATURES), np.eye(niqe.FEATURES)))
  (tmp_path / 'inception.safetensors').write_bytes(b'weights')
  monkeypatch.setattr(fid, 'load', lambda path: lambda image: np.float32(image[:24, :32].reshape(1, -1)[:, :2048]))
  rng = np.random.default_rng(0)
  for name in 'ab':
    for half in ('out', 'gt'):
      write(tmp_path / half / f'{name}.png', rng.integers(0, 256, (96, 192, 3), dtype=np.uint8))
  options = ('--niqe', tmp_path / 'pristine.npz', '--fid', tmp_path / 'inception.safetensors')
  assert score((tmp_path / 'out', tmp_path / 'gt'), *options, '-o', tmp_path / 'r.json') == 0
  report = json.loads((tmp_path / 'r.json').read_text())
  assert report['images'] == 2 and report['mean']['fid'] > 0 and report['mean']['niqe'] > 0
  assert set(report['models']) == {'niqe', 'fid'} and set(report['not_computed']) == {'lpips_alex'}
  printed = capsys.readouterr().out
  assert '| NIQE | FID |' in printed and 'FID of few images is too high' in printed
  write(tmp_path / 'out' / 'b.png', np.full((96, 192, 3), 255, np.uint8))
  for half in ('out', 'gt'):
    (tmp_path / half / 'a.png').unlink()
  assert score((tmp_path / 'out', tmp_path / 'gt'), *options, '-o', tmp_path / 'r.json') == 0
  report = json.loads((tmp_path / 'r.json').read_text())
  assert report['images'] == 1 and 'psnr_y' in report['mean'] and not {'fid', 'niqe'} & set(report['mean'])
  assert report['not_computed']['niqe'] == 'not computed: an image is too small or too flat'
  assert report['not_computed']['fid'] == 'not computed: takes two images'
  assert 'FID of few' not in capsys.readouterr().out


def test_equal_images_are_infinite_everywhere(folders, tmp_path, capsys):
  _, gt = folders
  assert score((gt, gt), '-o', tmp_path / 'r.json') == 0
  report = json.loads((tmp_path / 'r.json').read_text(), parse_constant=pytest.fail)
  assert report['mean']['psnr_y'] == 'inf' and report['files'][0]['psnr_rgb'] == 'inf'
  assert '| 3 | inf | 1.000 |' in capsys.readouterr().out


def test_every_file_that_does_not_fit_is_named(folders, capsys):
  out, gt = folders
  write(out / 'extra_restored.png')
  (out / 'sub' / 'b.png').unlink()
  write(gt / 'c.jpg')
  write(out / 'a.png', np.zeros((24, 33, 3), np.uint8))
  assert score(folders) == 1
  told = capsys.readouterr().err
  assert '4 problem(s)' in told
  assert 'missing: the reference sub/b has no restored image' in told
  assert 'extra: the restored image extra_restored has no reference' in told
  assert 'c.jpg and c.png have the same stem' in told
  assert 'a: sizes differ, restored 33x24, reference 32x24 (nothing is resized)' in told


def test_a_misnamed_file_is_refused(folders, capsys):
  out, _ = folders
  write(out / 'a.jpg')
  (out / 'a.jpg').rename(out / 'a.png')
  assert score(folders) == 1
  assert 'a: a.png is misnamed, its bytes are those of a .jpg file' in capsys.readouterr().err


def test_allow_missing_is_recorded(folders, tmp_path, capsys):
  out, _ = folders
  write(out / 'more.png')
  (out / 'c.png').unlink()
  assert score(folders, '--allow-missing', '-o', tmp_path / 'r.json') == 0
  report = json.loads((tmp_path / 'r.json').read_text())
  assert report['allow_missing'] and report['missing'] == ['c'] and report['extra'] == ['more']
  assert report['images'] == 2 and 'Left out: 1 missing, 1 extra.' in capsys.readouterr().out
  (out / 'a.png').rename(out / 'x.png')
  (out / 'sub' / 'b.png').unlink()
  assert score(folders, '--allow-missing') == 1
  assert 'no image of' in capsys.readouterr().err


def test_a_damaged_image_is_named_and_the_others_are_scored(folders, tmp_path, capsys):
  out, _ = folders
  damaged = (out / 'a.png').read_bytes()
  (out / 'a.png').write_bytes(damaged[:-300])
  assert score(folders, '-o', tmp_path / 'r.json') == 1
  report = json.loads((tmp_path / 'r.json').read_text())
  assert report['images'] == 2 and len(report['failed']) == 1 and 'a.png' in report['failed'][0]
  captured = capsys.readouterr()
  assert 'failed: a: ' in captured.err and 'Left out: 1 failed.' in captured.out
  (out / 'a.png').write_bytes(b'no image')
  assert score(folders) == 1
  assert "a.png'" in capsys.readouterr().err


def test_nothing_could_be_scored(tmp_path, capsys):
  for half in ('gt', 'out'):
    write(tmp_path / half / 'a.png', np.zeros((8, 8, 3), np.uint8))
  assert score((tmp_path / 'out', tmp_path / 'gt'), '--html', tmp_path / 'r.html') == 1
  captured = capsys.readouterr()
  assert '| 0 | - |' in captured.out and 'Protocol uhd needs at least 11 pixels' in captured.err


@pytest.mark.parametrize(
  'change, message',
  [
    ({'out': 'nowhere'}, "nowhere' does not exist"),
    ({'options': ['--protocol', 'psnr']}, 'psnr'),
    ({'options': ['-o', 'result.txt']}, 'must have a name that ends in .json'),
    ({'options': ['--html', 'result.json']}, 'must have a name that ends in .html'),
    ({'options': ['--prot', 'uhd']}, '--prot'),
  ],
)
def test_usage_errors(folders, tmp_path, change, message, capsys):
  out = tmp_path / change['out'] if 'out' in change else folders[0]
  with pytest.raises(SystemExit) as ended:
    score((out, folders[1]), *change.get('options', []))
  assert ended.value.code == 2 and message in capsys.readouterr().err


def test_an_interrupt(folders, monkeypatch):
  def interrupted(*args, **options):
    raise KeyboardInterrupt

  monkeypatch.setattr(measure.Measure, 'score', interrupted)
  assert score(folders) == 130


def test_options_match_the_parser():
  found = vars(scoring.parser().parse_args(['a', 'b']))
  del found['restored'], found['reference']
  assert scoring.Options(**found) == scoring.Options(protocol=protocols.DEFAULT)


def test_help_is_quick_and_starts_no_jax():
  code = 'import sys; from lh_jax import scoring; scoring.parser().format_help(); print("jax" in sys.modules)'
  found = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True, env=os.environ | {'PYTHONPATH': str(ROOT)}
  )
  assert found.stdout.strip() == 'False'
  assert re.search(r'uhd, uhd_bgr_lpips, aio', ' '.join(scoring.parser().format_help().split()))


def test_the_module_runs(folders):
  result = subprocess.run(
    [sys.executable, '-m', 'lh_jax.scoring', *map(str, folders), '--lpips', 'none'],
    capture_output=True,
    text=True,
    check=False,
    cwd=ROOT,
  )
  assert result.returncode == 0 and re.search(r'\| 3 \| 5\d\.', result.stdout)
