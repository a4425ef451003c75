"""Every kind of damage a downloaded data set comes with is found, named, and told in words and in JSON."""

import dataclasses
import json

import numpy as np
from PIL import Image
import pytest

from lh_jax.data import __main__ as command_line
from lh_jax.data import check
from lh_jax.data import datasets
from lh_jax.data import image_files

TINY = dataclasses.replace(datasets.find('uhd_ll'), counts=(datasets.Count(by='the paper', train=4, test=2),))


@pytest.fixture(name='folder')
def _folder(tmp_path, published, monkeypatch):
  """A sound stand-in for UHD-LL, of which four and two images are all there are."""
  monkeypatch.setitem(datasets.DATASETS, 'uhd_ll', TINY)
  return published(tmp_path / 'set', 'uhd_ll')


def found(folder, split='train', **options):
  report = check.check_split(folder, TINY, split, **options)
  return {problem.kind: problem.text for problem in report.problems}


def jpeg(path, *, size=(40, 50), orientation=1):
  noise = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
  exif = Image.Exif()
  exif[0x0112] = orientation
  Image.fromarray(noise).save(path, 'JPEG', exif=exif)


@pytest.mark.parametrize('deep', [False, True])
def test_sound(folder, deep):
  calls = []
  report = check.check_split(folder, TINY, 'train', deep=deep, advance=lambda *args: calls.append(args))
  assert not report.problems and not report.notes
  assert report.images == 4 and report.sizes == {'40x50': 4} and report.validation == 1
  assert calls == [(done, 4) for done in (1, 2, 3, 4)]
  assert check.check_split(folder, TINY, 'test').validation == 0


def test_partial_downloads(folder):
  train = folder / 'train'
  (train / 'gt' / '0000.png').unlink()
  (train / 'gt' / '0001.png').write_bytes(b'')
  assert found(folder) == {
    'unpaired': 'train: input/0000.png has no clean counterpart',
    'partial': 'train/gt/0001.png: is empty (0 bytes)',
    'count': 'train has 3 images; the paper has 4',
  }
  (train / 'gt' / '0002.png.crdownload').write_bytes(b'x')
  (train / 'licence.txt').write_text('x')
  report = check.check_split(folder, TINY, 'train')
  assert 'train/gt/0002.png.crdownload: half downloaded' in [problem.text for problem in report.problems]
  assert report.notes == ('1 file(s) are no images and are left alone: licence.txt',)


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_a_file_cut_short_is_found_without_decoding_all(folder, suffix, monkeypatch):
  path = folder / 'train' / 'gt' / '0001.png'
  if suffix == '.jpg':
    path.unlink()
    path = path.with_suffix('.jpg')
    jpeg(path, size=(40, 50))
  path.write_bytes(path.read_bytes()[:-1000])
  decoded, read = [], image_files.read_rgb
  monkeypatch.setattr(image_files, 'read_rgb', lambda file: decoded.append(file.name) or read(file))
  assert list(found(folder)) == ['partial'] and decoded == [path.name]
  assert f'train/gt/{path.name}: ' in found(folder)['partial']


def test_bytes_behind_a_jpeg_are_no_damage(folder):
  path = folder / 'train' / 'gt' / '0001.png'
  path.unlink()
  jpeg(path.with_suffix('.jpg'))
  with path.with_suffix('.jpg').open('ab') as stream:
    stream.write(bytes(5000))
  assert not found(folder)


def test_damaged_pixels_are_found_by_decoding(folder):
  path = folder / 'train' / 'input' / '0001.png'
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 255
  path.write_bytes(data)
  assert not found(folder)
  assert 'train/input/0001.png: its IDAT chunk is damaged' in found(folder, deep=True)['unreadable']


def test_unreadable(folder):
  (folder / 'train' / 'gt' / '0001.png').write_text('<html>Quota exceeded</html>')
  assert found(folder) == {'unreadable': 'train/gt/0001.png: it is not a PNG, JPEG, TIFF, WebP, BMP or PPM file'}


def test_a_jpeg_saved_as_png(folder):
  jpeg(folder / 'train' / 'gt' / '0001.png')
  assert found(folder) == {'format': 'train/gt/0001.png: its bytes are those of a .jpg file'}


def test_sizes_are_compared_as_shown(folder):
  for half in ('gt', 'input'):
    (folder / 'train' / half / '0001.png').unlink()
    jpeg(
      folder / 'train' / half / '0001.jpg',
      size=(40, 50) if half == 'gt' else (50, 40),
      orientation=6 if half == 'input' else 1,
    )
  assert not found(folder)
  jpeg(folder / 'train' / 'input' / '0001.jpg', size=(40, 50), orientation=6)
  text = 'train: uhd_ll/0001.jpg is 40x50 clean and 50x40 degraded (height x width as shown)'
  assert found(folder) == {'size': text}


def test_names_given_twice(folder):
  for half in ('gt', 'input'):
    path = folder / 'train' / half / '0001.png'
    path.with_stem('0001 (1)').write_bytes(path.read_bytes())
  assert found(folder)['duplicate'] == '0001 (1): looks like a second download of 0001'
  path.with_suffix('.webp').write_bytes(b'')
  kinds = [problem.kind for problem in check.check_split(folder, TINY, 'train').problems]
  assert kinds.count('duplicate') == 2


def test_empty_and_missing_splits(folder):
  for path in (folder / 'test').rglob('*.png'):
    path.unlink()
  assert found(folder, 'test')['empty'] == 'test: holds no image'
  for half in ('gt', 'input'):
    (folder / 'test' / half).rmdir()
  (folder / 'test').rmdir()
  assert 'UHD-LL is downloaded by hand' in found(folder, 'test')['missing']
  (folder / 'training_set').mkdir()
  assert 'keep one of them' in found(folder)['layout']


def test_counts_of_paper_and_publisher(folder):
  both = dataclasses.replace(TINY, counts=(*TINY.counts, datasets.Count(by='its publisher', train=5, test=3)))
  report = check.check_split(folder, both, 'train')
  assert not report.problems and report.notes == ('train has 4 images; its publisher has 5',)
  neither = dataclasses.replace(TINY, counts=both.counts[1:])
  assert check.check_split(folder, neither, 'train').problems[0].text == 'train has 4 images; its publisher has 5'


def test_command_line(folder, tmp_path, capsys, monkeypatch):
  assert command_line.main(['check', str(folder), '--dataset', 'uhd_ll']) == 0
  said = capsys.readouterr().out
  assert 'UHD-LL train: 4 pairs, of which 1 are the validation split' in said and 'no problem found' in said
  jpeg(folder / 'train' / 'gt' / '0001.png')
  (folder / 'test' / 'gt' / '0001.png').unlink()
  told = tmp_path / 'report.json'
  assert command_line.main(['check', str(folder), '--dataset', 'uhd_ll', '--deep', '--json', str(told)]) == 1
  said = capsys.readouterr().out
  assert 'format (a file that is not what its suffix says, such as a JPEG saved as PNG): 1' in said
  assert said.endswith('3 problem(s)\n')
  report = json.loads(told.read_text())
  assert report['deep'] and report['splits']['train']['problems'][0]['kind'] == 'format'
  assert [problem['kind'] for problem in report['splits']['test']['problems']] == ['unpaired', 'count']
  monkeypatch.setattr(check, 'check_split', lambda *_, **__: pytest.fail('checked before'))
  (tmp_path / 'file').touch()
  for name, words in (('file/x.json', f'The report {tmp_path / "file/x.json"} cannot be written'), ('x.txt', '.json')):
    assert command_line.main(['check', str(folder), '--dataset', 'uhd_ll', '--json', str(tmp_path / name)]) == 1
    assert words in capsys.readouterr().err
  monkeypatch.undo()
  monkeypatch.setitem(datasets.DATASETS, 'uhd_ll', TINY)
  assert command_line.main(['check', str(folder), '--dataset', 'uhd_ll', '--split', 'train']) == 1
  assert 'UHD-LL test' not in capsys.readouterr().out


@pytest.mark.parametrize(
  ['arguments', 'message'],
  [
    ([], 'required: check | prepare'),
    (['check', '.'], 'required: --dataset'),
    (['check', '.', '--dataset', 'uhd'], 'invalid choice'),
    (['check', 'none', '--dataset', 'uhd_ll'], 'none is not a folder. UHD-LL is downloaded by hand'),
    (['check', '.', '--dataset', 'uhd_ll', '--threads', '0'], '--threads must be at least 1'),
  ],
)
def test_usage_errors(arguments, message, capsys):
  with pytest.raises(SystemExit) as stopped:
    command_line.main(arguments)
  assert stopped.value.code == 2
  assert message in capsys.readouterr().err
