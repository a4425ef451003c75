"""Published data sets on disk: every accepted layout, pairs by name, and what does not fit."""

import shutil

import numpy as np
import pytest

from lh_jax.data import datasets
from lh_jax.data import image_files
from lh_jax.data import layouts
from lh_jax.data import sources
from lh_jax.data import splits


def _write(path, *, value=0, size=(20, 30)):
  image_files.write_image(path, np.full((*size, 3), value, np.uint8))


def _scan(path, name, split='train'):
  return layouts.scan(path, datasets.find(name), split)


@pytest.mark.parametrize(
  ['name', 'train', 'clean', 'degraded'],
  [
    ('uhd_ll', 'training_set', 'gt', 'input'),
    ('uhd_ll', 'Train', 'gt', 'input'),
    ('uhd_blur', 'train', 'gt_new', 'input_new'),
    ('uhd_rain', 'train', 'target', 'input'),
  ],
)
def test_two_folders(tmp_path, name, train, clean, degraded):
  for number in (2, 1):
    _write(tmp_path / train / clean / f'{number}.png', value=100)
    _write(tmp_path / train / degraded / f'{number}.jpg', value=50)
  scanned = _scan(tmp_path, name)
  assert scanned.folder == tmp_path / train and not scanned.problems
  assert [item.name for item in scanned.items] == [f'{name}/1.png', f'{name}/2.png']
  assert {item.task for item in scanned.items} == {datasets.find(name).task}
  sample = sources.build(name, path=tmp_path, split='train+val')[0]
  assert sample['clean'].max() == 100 and sample['degraded'].max() == 50


def test_names_tell_pairs_not_their_order(tmp_path, published):
  published(tmp_path, 'uhd_snow')
  (tmp_path / 'train' / 'gt' / '0000.png').unlink()
  (tmp_path / 'train' / 'input' / '0003.png').unlink()
  scanned = _scan(tmp_path, 'uhd_snow')
  assert [item.clean.name for item in scanned.items] == [item.degraded.name for item in scanned.items]
  assert [(problem.kind, problem.text) for problem in scanned.problems] == [
    ('unpaired', 'train: input/0000.png has no clean counterpart'),
    ('unpaired', 'train: gt/0003.png has no degraded counterpart'),
  ]
  with pytest.raises(ValueError, match=r'(?s)data set uhd_snow at .* has 2 problem\(s\):.*0000.png has no clean count'):
    sources.build('uhd_snow', path=tmp_path)


def test_pairs_told_by_marks(tmp_path):
  for folder, number in (('a', 3), ('b', 3), ('b', 4)):
    _write(tmp_path / 'Train' / folder / f'{number:04d}_gt.jpg')
    _write(tmp_path / 'Train' / folder / f'{number:04d}_moire.jpg', value=9)
  _write(tmp_path / 'Train' / 'a' / '0009_moire.jpg')
  _write(tmp_path / 'Train' / 'a' / '0009.jpg')
  scanned = _scan(tmp_path, 'uhd_moire')
  assert [item.name for item in scanned.items] == [
    'uhd_moire/a/0003.jpg',
    'uhd_moire/b/0003.jpg',
    'uhd_moire/b/0004.jpg',
  ]
  assert scanned.items[0].degraded.name == '0003_moire.jpg' and scanned.items[0].task == 'moire'
  assert {problem.kind: problem.text for problem in scanned.problems} == {
    'layout': 'Train: 0009.jpg ends in neither _gt nor _moire',
    'unpaired': 'Train: a/0009_moire.jpg has no clean counterpart',
  }


@pytest.mark.parametrize('half', ['', 'gt'])
def test_clean_images_alone(tmp_path, half):
  _write(tmp_path / 'test' / half / '1.png')
  source = sources.build('uhd_noise', path=tmp_path, split='test')
  assert source.items[0].task == 'noise' and set(source[0]) == {'name', 'task', 'clean'}


def test_a_folder_for_each_degradation(tmp_path, caplog):
  for folder in ('Motion Blur', 'low-light', 'rain'):
    _write(tmp_path / 'train' / folder / 'gt' / '1.png')
    _write(tmp_path / 'train' / folder / 'input' / '1.png')
  scanned = _scan(tmp_path, 'gends')
  assert {item.name: item.task for item in scanned.items} == {
    'gends/motion_blur/1.png': 'blur',
    'gends/low_light/1.png': 'low_light',
    'gends/rain/1.png': 'rain',
  }
  some = sources.build('gends', path=tmp_path, split='train+val', tasks=('rain', 'haze'))
  assert [item.task for item in some.items] == ['rain']
  assert 'GenDS: left out, as no task asks for them: blur, low_light.' in caplog.text
  with pytest.raises(ValueError, match='GenDS has images for blur, low_light, rain, and none for snow'):
    sources.build('gends', path=tmp_path, split='train+val', tasks=('snow',))
  (tmp_path / 'train' / 'fog').mkdir()
  assert [problem.text for problem in _scan(tmp_path, 'gends').problems] == [
    'train: fog is no degradation of GenDS (haze, rain, snow, motion_blur, raindrop, low_light)'
  ]
  shutil.rmtree(tmp_path / 'train')
  (tmp_path / 'train').mkdir()
  assert _scan(tmp_path, 'gends').problems[0].kind == 'empty'


def test_what_a_source_refuses_and_what_it_tells(tmp_path, caplog):
  """Folders in any case; half downloads and misnamed files are errors, a count that is nobody's a warning."""
  for half in ('GT', 'Input'):
    _write(tmp_path / 'Testing_Set' / half / '1.png')
  sources.build('uhd_ll', path=tmp_path, split='test')
  assert 'UHD-LL: test has 1 images; the paper has 115, its publisher has 150.' in caplog.text
  (tmp_path / 'Testing_Set' / 'GT' / '2.png.crdownload').write_bytes(b'x')
  with pytest.raises(ValueError, match='uhd_ll: Testing_Set/GT/2.png.crdownload: half downloaded'):
    sources.build('uhd_ll', path=tmp_path, split='test')
  (tmp_path / 'Testing_Set' / 'GT' / '2.png.crdownload').unlink()
  _write(tmp_path / 'Testing_Set' / 'GT' / '1.jpg')
  (tmp_path / 'Testing_Set' / 'GT' / '1.jpg').rename(tmp_path / 'Testing_Set' / 'GT' / '1.png')
  with pytest.raises(ValueError, match="uhd_ll/1.png: '1.png' is misnamed, its bytes are those of a .jpg file"):
    sources.build('uhd_ll', path=tmp_path, split='test')


def test_several_sets_as_one(tmp_path, published):
  published(tmp_path / 'UHD-LL', 'uhd_ll')
  published(tmp_path / 'uhd_haze', 'uhd_haze')
  source = sources.build('uhd_ll+uhd_haze', path=tmp_path, split='test')
  assert [item.name for item in source.items] == [
    f'{name}/{number:04d}.png' for name in ('uhd_ll', 'uhd_haze') for number in range(2)
  ]
  with pytest.raises(
    FileNotFoundError, match='no folder uhd_snow or UHD-Snow for one of several data sets. UHD-Snow is'
  ):
    sources.build('uhd_ll+uhd_snow', path=tmp_path)
  with pytest.raises(ValueError, match="unknown source 'uhd_ll.haze'; known: .*may be joined by"):
    sources.build('uhd_ll+haze', path=tmp_path)


def test_our_splits(tmp_path, published):
  published(tmp_path, 'uhd_ll', train=12)
  names = {
    split: [item.name for item in sources.build('uhd_ll', path=tmp_path, split=split).items] for split in splits.SPLITS
  }
  assert sorted(names['train'] + names['val']) == names['train+val'] and len(names['val']) == 1
  assert len(names['test']) == 2


def test_missing_folders_give_the_instructions(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'(?s)data set folder .*x. does not exist. UHD-LL is downloaded by hand'):
    sources.build('uhd_ll', path=tmp_path / 'x')
  (tmp_path / 'gt').mkdir()
  with pytest.raises(
    FileNotFoundError, match='no folder test or testing_set for the split test, it has gt. UHD-LL is d'
  ):
    sources.build('uhd_ll', path=tmp_path, split='test')
  for name in ('train', 'training_set'):
    (tmp_path / name).mkdir()
  with pytest.raises(ValueError, match='has train and training_set, both for the split train; keep one'):
    sources.build('uhd_ll', path=tmp_path)


def test_halves_that_are_missing_doubled_or_empty(tmp_path):
  (tmp_path / 'train' / 'gt').mkdir(parents=True)
  assert [problem.text for problem in _scan(tmp_path, 'uhd_blur').problems] == [
    'train: no folder of degraded images (input, input_new, input300)'
  ]
  (tmp_path / 'train' / 'input').mkdir()
  assert [(problem.kind, problem.text) for problem in _scan(tmp_path, 'uhd_blur').problems] == [
    ('empty', 'train: holds no image')
  ]
  (tmp_path / 'train' / 'gt_new').mkdir()
  assert (
    _scan(tmp_path, 'uhd_blur').problems[0].text == 'train: has gt and gt_new, which are one thing; keep one of them'
  )


def test_two_files_of_one_name(tmp_path, published):
  published(tmp_path, 'uhd_ll')
  _write(tmp_path / 'train' / 'gt' / '0001.jpg')
  (problem,) = _scan(tmp_path, 'uhd_ll').problems
  assert problem.kind == 'duplicate' and '0001.jpg and 0001.png have the same stem' in problem.text


def test_other_files_are_told(tmp_path, published):
  published(tmp_path, 'uhd_ll')
  (tmp_path / 'train' / 'README.txt').write_text('hello')
  assert [path.name for path in _scan(tmp_path, 'uhd_ll').others] == ['README.txt']
