"""Which file goes where: trees, hidden files, loops, the output among the inputs, collisions."""

import os

import pytest

from lh_jax import folders


def touch(root, *names):
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).touch()


def planned(root, inputs, output, *, recursive=True):
  """The plan as {source: target}, relative to `root`."""
  jobs = folders.plan([root / name for name in inputs], root / output, recursive=recursive)
  return {job.source.relative_to(root).as_posix(): job.target.relative_to(root).as_posix() for job in jobs}


def test_a_tree_is_kept_and_hidden_files_are_ignored(tmp_path):
  touch(tmp_path, 'in/b.JPG', 'in/a ü.png', 'in/sub/deep/c.tiff', 'in/.hidden.png', 'in/.git/d.png', 'in/text.txt')
  top = {'in/a ü.png': 'out/a ü.png', 'in/b.JPG': 'out/b.JPG'}
  assert planned(tmp_path, ['in'], 'out', recursive=False) == top
  found = planned(tmp_path, ['in'], 'out')
  assert found == top | {'in/sub/deep/c.tiff': 'out/sub/deep/c.tiff'}
  assert list(found) == sorted(found)


def test_one_file(tmp_path):
  touch(tmp_path, 'in/a.png', 'in/odd.heic')
  assert planned(tmp_path, ['in/a.png'], 'new/b.jpg') == {'in/a.png': 'new/b.jpg'}
  assert planned(tmp_path, ['in/a.png'], 'new') == {'in/a.png': 'new/a.png'}
  # What is named by itself is tried, whatever its name says.
  assert planned(tmp_path, ['in/odd.heic'], 'new') == {'in/odd.heic': 'new/odd.png'}


def test_kinds_that_are_not_written_become_png(tmp_path):
  touch(tmp_path, 'in/a.bmp', 'in/b.tif')
  jobs = folders.plan([tmp_path / 'in'], tmp_path / 'out', recursive=False)
  assert [job.target.name for job in jobs] == ['a.png', 'b.tif']
  assert [job.notes for job in jobs] == [('written as PNG: .bmp files are not written',), ()]


def test_the_output_inside_an_input_is_not_read(tmp_path):
  touch(tmp_path, 'in/a.png', 'in/sub/b.png', 'in/sub/restored/a.png', 'in/sub/restored/sub/b.png')
  expected = {'in/a.png': 'in/sub/restored/a.png', 'in/sub/b.png': 'in/sub/restored/sub/b.png'}
  assert planned(tmp_path, ['in'], 'in/sub/restored') == expected
  (tmp_path / 'link').symlink_to(tmp_path / 'in' / 'sub' / 'restored')
  assert len(planned(tmp_path, ['in'], 'link')) == 2


def test_links_that_lead_back_do_not_hang(tmp_path, caplog):
  """Two loops in one folder double with every level: forty levels deep, nothing would ever end."""
  touch(tmp_path, 'in/a.png', 'in/sub/b.png', 'other/c.png')
  for name in ('sub/up', 'sub/again'):
    (tmp_path / 'in' / name).symlink_to(tmp_path / 'in')
  (tmp_path / 'in' / 'other').symlink_to(tmp_path / 'other')
  (tmp_path / 'other' / 'back').symlink_to(tmp_path / 'in')
  assert sorted(planned(tmp_path, ['in'], 'out')) == ['in/a.png', 'in/other/c.png', 'in/sub/b.png']
  assert 'leads back to a folder above it' in caplog.text


def test_a_folder_that_cannot_be_read_is_a_failure(tmp_path, monkeypatch):
  touch(tmp_path, 'in/a.png', 'in/locked/b.png')
  scandir = os.scandir

  def guarded(path):
    if os.fspath(path).endswith('locked'):
      raise PermissionError(13, 'Permission denied')
    return scandir(path)

  monkeypatch.setattr(os, 'scandir', guarded)
  fine, locked = folders.plan([tmp_path / 'in'], tmp_path / 'out', recursive=True)
  assert (fine.source, fine.error) == (tmp_path / 'in' / 'a.png', None)
  assert locked.source == tmp_path / 'in' / 'locked'
  assert locked.error == 'the folder cannot be read: Permission denied'


@pytest.mark.parametrize(
  'inputs, output, message',
  [
    (['nowhere.png'], 'x.png', 'nowhere.png does not exist'),
    (['in', 'nowhere'], 'x', 'nowhere does not exist'),
    (['in'], 'in', 'is the input folder itself, whose files would be lost'),
    (['link'], 'in', 'is the input folder itself'),
    (['in'], 'in/../in', 'is the input folder itself'),
    (['in/a.png'], 'in/a.png', 'a.png would replace an input file'),
    (['in/a.png'], 'in', 'a.png would replace an input file'),
    (['linked'], 'in', 'a.png would replace an input file'),
    (['in/a.png', 'in/sub/c.png'], 'x.png', '2 inputs cannot be written to the one file'),
    (['empty'], 'out', 'No images in .*empty.$'),
    (['in/a.png'], 'out.gif', "'.gif' files cannot be written; known: .png.* If it is to be a folder, make it first"),
    (['in'], 'FILE', 'is a file, and the input is not one image: name a folder with -o'),
    (['in/a.png'], 'FILE', 'is a file, and the input is not one image'),
    (['in/a.png'], 'FILE/out', 'FILE is a file, so that nothing can be written below it'),
    (['in/a.png'], 'FILE/out/b.png', 'FILE is a file, so that nothing can be written below it'),
    (['in/a.png', 'in/a.png'], 'out', 'Several inputs would be written to one file: .*a.png and .*a.png to .*a.png'),
    (['twins'], 'out', 'one file: .*d.bmp and .*d.png to .*d.png'),
    (['cases'], 'out', 'one file: .*E.png and .*e.PNG to '),
    (['accents'], 'out', 'Several inputs would be written to one file'),
    (['many'], 'out', 'x4.bmp and .*x4.png to .*; and 2 more. Rename some'),
  ],
)
def test_mistakes(tmp_path, inputs, output, message):
  touch(tmp_path, 'in/a.png', 'in/sub/c.png', 'FILE', 'twins/d.bmp', 'twins/d.png', 'cases/e.PNG', 'cases/E.png')
  touch(tmp_path, 'accents/\u00fc.png', 'accents/u\u0308.png')
  touch(tmp_path, *(f'many/x{i}.{kind}' for i in range(7) for kind in ('png', 'bmp')))
  for name in ('empty', 'linked'):
    (tmp_path / name).mkdir()
  (tmp_path / 'link').symlink_to(tmp_path / 'in')
  (tmp_path / 'linked' / 'a.png').symlink_to(tmp_path / 'in' / 'a.png')
  with pytest.raises((ValueError, OSError), match=message):
    planned(tmp_path, inputs, output)


def test_images_in_sub_folders_only(tmp_path):
  touch(tmp_path, 'in/sub/c.png')
  with pytest.raises(ValueError, match=r'No images in .*in \(sub-folders need --recursive\)'):
    planned(tmp_path, ['in'], 'out', recursive=False)


def test_an_output_without_permission(tmp_path, monkeypatch):
  touch(tmp_path, 'in/a.png')
  monkeypatch.setattr(os, 'access', lambda path, mode: False)
  with pytest.raises(PermissionError, match='No permission to write into'):
    planned(tmp_path, ['in'], 'new/out')
