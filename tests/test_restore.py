"""lh-restore: files and folders in and out, failures by name, exit codes."""

import jax
import numpy as np
from PIL import Image
import pytest

from lh_jax import exports
from lh_jax import networks as networks_lib
from lh_jax import restore

from tests.conftest import tiny_config


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  config = tiny_config()
  sections = {name: config[name].to_dict() for name in networks_lib.SECTIONS}
  params = jax.device_get(jax.jit(networks_lib.build(sections).init)(jax.random.key(0)))
  folder = tmp_path_factory.mktemp('model')
  exports.save(folder / 'export', exports.Export(sections=sections, params=params, stage='stage2'))
  return str(folder)


@pytest.fixture(name='photographs')
def _photographs(tmp_path):
  folder = tmp_path / 'in'
  for name in ('a.png', 'b ü.jpg', 'sub/c.png'):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 24, 3), 90, np.uint8)).save(folder / name)
  return folder


def written(folder):
  return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_one_file(photographs, tmp_path, model):
  target = tmp_path / 'new' / 'out.png'
  assert restore.main([str(photographs / 'a.png'), '-o', str(target), '--checkpoint', model, '--alpha', '0.2']) == 0
  assert np.asarray(Image.open(target)).shape == (16, 24, 3)


def test_folder(photographs, tmp_path, model):
  out = tmp_path / 'out'
  assert restore.main([str(photographs), '-o', str(out), '--checkpoint', model]) == 0
  assert written(out) == ['a.png', 'b ü.jpg']
  assert restore.main([str(photographs), '-o', str(out), '--checkpoint', model, '--recursive']) == 0
  assert written(out) == ['a.png', 'b ü.jpg', 'sub/c.png']


def test_finished_files_are_skipped(photographs, tmp_path, model):
  out = tmp_path / 'out'
  out.mkdir()
  (out / 'a.png').write_bytes(b'mine')
  command = [str(photographs), '-o', str(out), '--checkpoint', model]
  assert restore.main(command) == 0 and (out / 'a.png').read_bytes() == b'mine'
  assert restore.main([*command, '--overwrite']) == 0 and (out / 'a.png').read_bytes() != b'mine'


def test_a_bad_file_is_named_and_the_others_are_written(photographs, tmp_path, model, capsys):
  (photographs / 'bad.png').write_bytes((photographs / 'a.png').read_bytes()[:40])
  out = tmp_path / 'out'
  assert restore.main([str(photographs), '-o', str(out), '--checkpoint', model]) == 1
  assert written(out) == ['a.png', 'b ü.jpg']
  assert 'bad.png' in capsys.readouterr().err


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['nowhere.png', '-o', 'x.png'], 'nowhere.png does not exist'),
    (['IN', '-o', 'IN/out'], 'lies in the input folder'),
    (['IN/a.png', 'IN/sub/c.png', '-o', 'x.png'], '2 inputs cannot be written to the one file'),
    (['EMPTY', '-o', 'out'], 'EMPTY'),
    (['IN/a.png', '-o', 'out.tiff'], "'.tiff' files cannot be written; known: .png"),
    (['IN', '-o', 'FILE'], 'is a file, and .* is a folder: name a folder with -o'),
    (['IN/a.png', 'IN/a.png', '-o', 'out'], 'Several inputs would be written to'),
    (['IN/a.png', '-o', 'x.png', '--alpha', '2'], r'2 is not in \[0, 1\]'),
    (['IN/a.png', '-o', 'x.png', '--tile', '512'], 'invalid choice'),
    (['IN/a.png', '-o', 'x.png', '--checkpoint', 'nowhere'], 'nowhere holds no export'),
    (['IN/a.png'], 'required: -o/--output'),
  ],
)
def test_usage_errors_exit_with_2(photographs, tmp_path, model, capsys, monkeypatch, arguments, message):
  empty = tmp_path / 'EMPTY'
  empty.mkdir()
  (tmp_path / 'FILE').touch()
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'IN').symlink_to(photographs)
  arguments = arguments if '--checkpoint' in arguments else [*arguments, '--checkpoint', model]
  with pytest.raises(SystemExit) as stop:
    restore.main(arguments)
  assert stop.value.code == 2
  assert __import__('re').search(message, capsys.readouterr().err)


def test_kinds_that_cannot_be_written_become_png(tmp_path, model):
  folder, out = tmp_path / 'in', tmp_path / 'out'
  folder.mkdir()
  Image.fromarray(np.full((16, 24, 3), 90, np.uint8)).save(folder / 'a.tif')
  Image.fromarray(np.full((16, 24), 30_000, np.uint16)).save(folder / 'grey16.png')
  assert restore.main([str(folder), '-o', str(out), '--checkpoint', model]) == 0
  assert written(out) == ['a.png', 'grey16.png']


def test_mode_restore(photographs, tmp_path, model, tiny_config):
  with pytest.raises(ValueError, match='needs --config.restore.input=PATH'):
    restore.restore_config(tiny_config, tmp_path)
  tiny_config.restore.update({'input': 'a', 'output': 'b', 'alpha': 2.0})
  with pytest.raises(ValueError, match=r'restore.alpha must lie in \[0, 1\], got 2.0'):
    restore.restore_config(tiny_config, tmp_path)
  tiny_config.restore.update(
    {'alpha': 0.5, 'input': str(photographs), 'output': str(tmp_path / 'out'), 'checkpoint': model}
  )
  assert restore.restore_config(tiny_config, tmp_path) == 0
  assert written(tmp_path / 'out') == ['a.png', 'b ü.jpg', 'sub/c.png']
