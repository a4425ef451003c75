"""Data sets: what they hold, how they pair, what they refuse, and what they keep in memory."""

import importlib.util
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from lh_jax.data import image_files
from lh_jax.data import sources


def _write(path, *, value=0, size=(20, 30), orientation=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  exif = Image.Exif()
  if orientation:
    exif[0x0112] = orientation
  Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path, exif=exif)


@pytest.fixture
def decoded(monkeypatch):
  """Names of the files decoded, in order."""
  names, read_rgb = [], image_files.read_rgb
  monkeypatch.setattr(image_files, 'read_rgb', lambda path: names.append(path.name) or read_rgb(path))
  return names


@pytest.mark.parametrize('split', sources.EMBEDDED)
def test_embedded_photographs(split):
  source = sources.build('embedded', split=split)
  assert len(source) == len(sources.EMBEDDED[split])
  for index, item in enumerate(source.items):
    sample = source[index]
    assert sample['name'] == item.name and set(sample) == {'name', 'clean'}
    assert sample['clean'].shape == (item.height, item.width, 3) and sample['clean'].dtype == np.uint8
    assert min(item.height, item.width) >= 300
    assert sample['clean'].std() > 20


def test_embedded_splits_share_nothing():
  names = [name for split in sources.EMBEDDED.values() for name in split]
  assert len(names) == len(set(names))


def test_embedded_errors(monkeypatch, tmp_path):
  with pytest.raises(ValueError, match="unknown split 'dev' of the embedded photographs; known: train, test"):
    sources.embedded(split='dev')
  spec = importlib.util.find_spec('skimage')
  monkeypatch.setattr(spec, 'submodule_search_locations', [str(tmp_path)])
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: spec)
  with pytest.raises(FileNotFoundError, match='lacks the photographs chelsea.png: reinstall scikit-image'):
    sources.embedded(split='test')
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(FileNotFoundError, match='scikit-image, which is not installed: pip install scikit-image'):
    sources.embedded()


def test_embedded_photographs_do_not_import_scikit_image_nor_grain_nor_jax():
  program = (
    'import sys; from lh_jax.data import sources; sources.embedded()[0]; '
    "print({'skimage', 'grain', 'jax', 'scipy'} & set(sys.modules))"
  )
  done = subprocess.run(
    [sys.executable, '-c', program], cwd=pathlib.Path(__file__).parents[2], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == 'set()'


def test_folder(tmp_path):
  _write(tmp_path / 'b.png', value=1)
  _write(tmp_path / 'a' / 'c.jpg', value=2, orientation=6)
  source = sources.build('folder', path=tmp_path)
  assert [(item.name, item.height, item.width) for item in source.items] == [('a/c.jpg', 30, 20), ('b.png', 20, 30)]
  assert source[0]['clean'].shape == (30, 20, 3)
  assert source[-1]['name'] == 'b.png' and source[1]['clean'].max() == 1
  with pytest.raises(IndexError):
    source[2]


def test_folder_errors(tmp_path):
  with pytest.raises(FileNotFoundError, match="image folder '.*none' does not exist"):
    sources.folder(tmp_path / 'none')
  with pytest.raises(ValueError, match="image folder '.*' holds no image; looked for .bmp, .jpeg, .jpg, .png"):
    sources.folder(tmp_path)
  for name in ('x.png', 'y.png'):
    (tmp_path / name).write_text('not an image')
  with pytest.raises(ValueError, match=r"(?s)has 2 problem\(s\):.*read image file '.*x.png'.*file '.*y.png'"):
    sources.folder(tmp_path)


def test_truncated_pixels_are_found_when_decoded(tmp_path):
  noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
  image_files.write_image(tmp_path / 'x.png', noise)
  (tmp_path / 'x.png').write_bytes((tmp_path / 'x.png').read_bytes()[:3000])
  source = sources.folder(tmp_path)
  with pytest.raises(ValueError, match="cannot read image file '.*x.png': it is cut short"):
    source[0]


def test_16_bit_grey_is_rounded(tmp_path):
  Image.fromarray(np.array([[0, 128, 129, 257 * 7, 65535]], np.uint16)).save(tmp_path / 'x.png')
  assert sources.folder(tmp_path)[0]['clean'][0, :, 0].tolist() == [0, 0, 1, 7, 255]


def test_one_pair_of_folders(tmp_path):
  for stem in ('1', '2', 'sub/1'):
    _write(tmp_path / 'gt' / f'{stem}.png', value=100)
    _write(tmp_path / 'input' / f'{stem}.jpg', value=50)
  source = sources.build('pairs', path=tmp_path)
  assert [item.name for item in source.items] == ['1.png', '2.png', 'sub/1.png']
  sample = source[2]
  assert set(sample) == {'name', 'clean', 'degraded'}
  assert sample['clean'].max() == 100 and sample['degraded'].max() == 50


def test_a_pair_may_differ_in_how_it_is_stored_but_not_in_how_it_looks(tmp_path):
  _write(tmp_path / 'gt' / '1.jpg', size=(30, 20))
  _write(tmp_path / 'input' / '1.jpg', size=(20, 30), orientation=6)
  assert sources.pairs(tmp_path)[0]['degraded'].shape == (30, 20, 3)
  _write(tmp_path / 'input' / '1.jpg', size=(30, 20), orientation=6)
  with pytest.raises(ValueError, match=r"1.jpg: sizes differ, clean '1.jpg' is 30x20 and degraded '1.jpg' is 20x30"):
    sources.pairs(tmp_path)


def test_a_folder_for_each_task(tmp_path):
  _write(tmp_path / 'haze' / 'gt' / '1.png')
  _write(tmp_path / 'haze' / 'input' / '1.png', value=9)
  _write(tmp_path / 'rain' / 'target' / '1.png')
  _write(tmp_path / 'rain' / 'input' / '1.png')
  _write(tmp_path / 'noise' / 'gt' / '1.png')
  (tmp_path / '.git').mkdir()
  source = sources.pairs(tmp_path)
  assert [(item.name, item.task) for item in source.items] == [
    ('haze/1.png', 'haze'),
    ('noise/1.png', 'noise'),
    ('rain/1.png', 'rain'),
  ]
  assert source[0]['task'] == 'haze' and source[0]['degraded'].max() == 9
  assert source[1]['task'] == 'noise' and 'degraded' not in source[1]
  some = sources.pairs(tmp_path, tasks=('haze', 'noise15', 'noise50'))
  assert [item.task for item in some.items] == ['haze', 'noise']


def test_all_problems_of_pairs_are_reported_together(tmp_path):
  for stem in ('1', '2', '3'):
    _write(tmp_path / 'haze' / 'gt' / f'{stem}.png')
  _write(tmp_path / 'haze' / 'gt' / '1.jpg')
  _write(tmp_path / 'haze' / 'input' / '1.png')
  _write(tmp_path / 'haze' / 'input' / '2.png', size=(20, 31))
  _write(tmp_path / 'haze' / 'input' / '9.png')
  _write(tmp_path / 'rain' / 'input' / '1.png')
  (tmp_path / 'snow' / 'gt').mkdir(parents=True)
  _write(tmp_path / 'blur' / 'gt' / '1.png')
  _write(tmp_path / 'blur' / 'gt_new' / '1.png')
  with pytest.raises(ValueError) as caught:
    sources.pairs(tmp_path)
  message = str(caught.value)
  for part in (
    'has 7 problem(s)',
    'blur: has gt and gt_new, which are one thing',
    'haze/gt: 1.jpg and 1.png have the same stem',
    'haze: gt/3 has no counterpart in input',
    'haze: input/9 has no counterpart in gt',
    'haze/2.png: sizes differ',
    'rain: no folder of clean images (gt, target',
    'snow/gt: holds no image',
  ):
    assert part in message


def test_only_the_first_problems_are_spelled_out(tmp_path):
  (tmp_path / 'input').mkdir()
  for number in range(25):
    _write(tmp_path / 'gt' / f'{number}.png')
  with pytest.raises(ValueError, match=r'(?s)has 25 problem\(s\):.*\.\.\. and 5 more$'):
    sources.pairs(tmp_path)


def test_pairs_layout_errors(tmp_path):
  with pytest.raises(FileNotFoundError, match="'.*none' does not exist"):
    sources.pairs(tmp_path / 'none')
  with pytest.raises(ValueError, match='holds neither gt and input nor a folder for each task'):
    sources.pairs(tmp_path)
  _write(tmp_path / 'haze' / 'gt' / '1.png')
  with pytest.raises(ValueError, match="no folder for task 'rain'; there are haze"):
    sources.pairs(tmp_path, tasks=('haze', 'rain'))
  with pytest.raises(ValueError, match=r'haze: no folder of degraded images \(input, .*use data.source=folder'):
    sources.pairs(tmp_path / 'haze')


def test_dead_leaves():
  source = sources.build('dead_leaves', painted={'size': 32, 'count': 3, 'seed': 7})
  again = sources.build('dead_leaves', painted={'size': 32, 'count': 3, 'seed': 7})
  assert len(source) == 3 and source[0]['clean'].shape == (32, 32, 3)
  np.testing.assert_array_equal(source[1]['clean'], again[1]['clean'])
  assert (source[0]['clean'] != source[1]['clean']).any()
  for options in ({'size': 0}, {'count': 0}, {'seed': -1}):
    with pytest.raises(ValueError, match='dead leaves need size >= 1, count >= 1 and seed >= 0, got'):
      sources.dead_leaves(**options)


def test_the_cache_keeps_what_fits(tmp_path, decoded):
  for name in 'abc':
    _write(tmp_path / f'{name}.png', size=(64, 64))
  image_bytes = 64 * 64 * 3
  source = sources.folder(tmp_path, cache_gib=2.5 * image_bytes / 2**30)
  for _ in range(3):
    for index in (0, 1, 2):
      source[index]
  assert decoded == ['a.png', 'b.png', 'c.png', 'c.png', 'c.png']
  with pytest.raises(ValueError, match='read-only'):
    source[0]['clean'][0, 0, 0] = 1


def test_no_cache(tmp_path, decoded):
  _write(tmp_path / 'a.png')
  source = sources.folder(tmp_path, cache_gib=0)
  source[0], source[0]
  assert decoded == ['a.png', 'a.png']
  with pytest.raises(ValueError, match='cache_gib is -1; it must be 0'):
    sources.folder(tmp_path, cache_gib=-1)


def test_smaller_copies():
  """They come after the images, as means of blocks; what is too small is left out."""
  source = sources.build('embedded+dead_leaves', painted={'size': 40, 'count': 2, 'seed': 0}, levels=3, least=150)
  names = [item.name for item in source.items]
  images = len(sources.EMBEDDED['train']) + 2
  assert len(names) == len(set(names)) and not any('@' in name for name in names[:images])
  copies = [name for name in names if '@1/2' in name]
  assert copies == [f'embedded/{name}@1/2' for name in sources.EMBEDDED['train']]
  assert all(min(item.height, item.width) >= 150 for item in source.items[images:])
  assert [item.reduction for item in source.items] == [1] * images + [2] * len(copies)
  whole, half = (source[names.index(f'embedded/coffee.png{end}')]['clean'] for end in ('', '@1/2'))
  item = source.items[names.index('embedded/coffee.png@1/2')]
  assert half.shape == (item.height, item.width, 3) == (whole.shape[0] // 2, whole.shape[1] // 2, 3)
  np.testing.assert_array_equal(half[3, 5], np.rint(whole[6:8, 10:12].mean((0, 1), dtype=np.float32)))
  source.check_readable()


def test_build_errors():
  with pytest.raises(ValueError, match='data.pyramid counts the sizes of an image: it must be at least 1, got 0'):
    sources.build('embedded', levels=0)
  with pytest.raises(ValueError, match="the source 'pairs' has pairs"):
    sources.build('pairs', path='/nowhere', levels=2)
  with pytest.raises(
    ValueError, match="unknown source 'imagenet'; known: embedded, folder, pairs, dead_leaves, crops, uhd_ll"
  ):
    sources.build('imagenet')
  for name in ('folder', 'pairs'):
    with pytest.raises(ValueError, match=f"source '{name}' reads a folder: name it in data.path"):
      sources.build(name)
