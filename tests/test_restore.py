"""lh-restore and --mode=restore in this process: files and folders in and out, failures by name, exit codes, report.

What ends a process is in test_restore_process.py.
"""

import functools
import json
import logging
import re
import struct
import subprocess
import sys
import zlib

import jax
import numpy as np
from PIL import Image
from PIL import ImageCms
import pytest

import lh_jax
from lh_jax import exports
from lh_jax import inference
from lh_jax import networks as networks_lib
from lh_jax import options as options_lib
from lh_jax import restore
from lh_jax.data import image_files

from tests.conftest import ROOT, tiny_config

MAKER, ORIENTATION = 0x010F, 0x0112


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  """A work directory, as it stands in a command."""
  config = tiny_config()
  sections = {name: config[name].to_dict() for name in networks_lib.SECTIONS}
  params = jax.device_get(jax.jit(networks_lib.build(sections).init)(jax.random.key(0)))
  folder = tmp_path_factory.mktemp('model')
  exports.save(folder / 'export', exports.Export(sections=sections, params=params, stage='stage2'))
  return str(folder)


@pytest.fixture(scope='module')
def shared():
  """Loads every model once: loading and compiling would take most of the time."""
  return functools.cache(inference.Restorer.from_pretrained)


@pytest.fixture(autouse=True)
def use_shared(shared, monkeypatch):
  monkeypatch.setattr(inference.Restorer, 'from_pretrained', shared)


@pytest.fixture(name='photographs')
def _photographs(tmp_path):
  folder = tmp_path / 'in'
  for name in ('a.png', 'b ü.jpg', 'sub/c.png'):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 24, 3), 90, np.uint8)).save(folder / name)
  return folder


@pytest.fixture(name='console', autouse=True)
def _console(monkeypatch):
  """Lets every test have a console of its own: a handler keeps the standard error that it was made with."""
  logger = logging.getLogger('lh_jax')
  monkeypatch.setattr(logger, 'handlers', [])
  monkeypatch.setattr(logger, 'propagate', True)
  monkeypatch.setattr(logger, 'level', logging.NOTSET)


def written(folder):
  return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_one_file(photographs, tmp_path, model):
  target = tmp_path / 'new' / 'out.png'
  assert restore.main([str(photographs / 'a.png'), '-o', str(target), '--checkpoint', model, '--alpha', '0.2']) == 0
  assert np.asarray(Image.open(target)).shape == (16, 24, 3)


def test_the_command_itself(photographs, tmp_path, model):
  """In a process of its own, with the allocator set up for it."""
  result = subprocess.run(
    [sys.executable, '-m', 'lh_jax.restore', photographs / 'a.png', '-o', tmp_path / 'out', '--checkpoint', model],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  assert result.stderr.count('Compiling') == 1 and '1 restored' in result.stderr
  assert written(tmp_path / 'out') == ['a.png']


def test_folder_and_what_is_said(photographs, tmp_path, model, capsys):
  out = tmp_path / 'out'
  assert restore.main([str(photographs), '-o', str(out), '--checkpoint', model]) == 0
  assert written(out) == ['a.png', 'b ü.jpg']
  lines = capsys.readouterr().err
  assert lines.count('Restoring on cpu in float32.') == 1
  assert f'[2/2] {photographs}/b ü.jpg -> {out}/b ü.jpg, 24x16, 8 bits, read' in lines
  assert '2 restored, ' in lines
  assert restore.main([str(photographs), '-o', str(out), '--checkpoint', model, '--recursive']) == 0
  assert written(out) == ['a.png', 'b ü.jpg', 'sub/c.png']
  lines = capsys.readouterr().err
  assert '2 of 3 files exist already and are skipped (--overwrite writes them again).' in lines
  assert '1 restored, 2 skipped, ' in lines


def test_output_inside_the_input(photographs, model):
  out = photographs / 'restored'
  for status in ('restored', 'skipped'):
    report = photographs / 'report.json'
    command = [str(photographs), '-o', str(out), '--checkpoint', model, '--recursive', '--report', str(report)]
    assert restore.main(command) == 0
    assert written(out) == ['a.png', 'b ü.jpg', 'sub/c.png']
    assert {row['status'] for row in json.loads(report.read_text())['files']} == {status}


def test_finished_files_are_skipped(photographs, tmp_path, model):
  out = tmp_path / 'out'
  out.mkdir()
  (out / 'a.png').write_bytes(b'mine')
  command = [str(photographs), '-o', str(out), '--checkpoint', model]
  assert restore.main(command) == 0 and (out / 'a.png').read_bytes() == b'mine'
  assert restore.main([*command, '--overwrite']) == 0 and (out / 'a.png').read_bytes() != b'mine'


def test_nothing_left_to_do_needs_no_model(photographs, tmp_path, monkeypatch):
  out = tmp_path / 'out.png'
  out.touch()
  monkeypatch.setattr(inference.Restorer, 'from_pretrained', None)  # would be a TypeError
  assert restore.main([str(photographs / 'a.png'), '-o', str(out)]) == 0


def png_header(width, height):
  """A PNG file that promises more than it holds."""
  chunks = (
    (b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)),
    (b'IDAT', zlib.compress(b'')),
    (b'IEND', b''),
  )
  packed = (
    struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data)) for name, data in chunks
  )
  return b'\x89PNG\r\n\x1a\n' + b''.join(packed)


def test_bad_files_are_named_and_the_others_are_written(photographs, tmp_path, model, capsys):
  whole = (photographs / 'a.png').read_bytes()
  bad = {
    'cut.png': (whole[: len(whole) // 2], 'cut short'),
    'text.png': (b'not an image\n', 'it is not a PNG, JPEG'),
    'empty.jpg': (b'', 'it is empty'),
    'bomb.png': (png_header(100_000, 100_000), '100000x100000 pixels are not within 1 to'),
  }
  for name, (content, _) in bad.items():
    (photographs / name).write_bytes(content)
  (photographs / 'lost.png').symlink_to(tmp_path / 'nowhere.png')
  out, report = tmp_path / 'out', tmp_path / 'report.json'
  command = [str(photographs), '-o', str(out), '--checkpoint', model, '--report', str(report)]
  assert restore.main(command) == 1
  assert written(out) == ['a.png', 'b ü.jpg']
  lines = capsys.readouterr().err
  assert '2 restored, 5 failed' in lines
  found = json.loads(report.read_text())
  assert found['totals'] == {'files': 7, 'restored': 2, 'skipped': 0, 'failed': 5, 'not_reached': 0}
  reasons = {row['input']: row['error'] for row in found['files'] if row['status'] == 'failed'}
  for name, (_, reason) in bad.items():
    assert re.search(f'^failed: .*{name}.*{reason}', lines, re.MULTILINE)
    assert reason in reasons[str(photographs / name)]
  assert re.search('^failed: .*lost.png.* does not exist', lines, re.MULTILINE)


def test_report(photographs, tmp_path, model):
  out, report = tmp_path / 'out', tmp_path / 'reports' / 'report.json'
  Image.fromarray(np.full((16, 24, 3), 90, np.uint8)).save(photographs / 'd.bmp')
  (out).mkdir()
  (out / 'a.png').touch()
  command = [str(photographs), '-o', str(out), '--checkpoint', model, '--report', str(report)]
  assert restore.main([*command, '--alpha', '0.25', '--max-memory', '1G']) == 0
  found = json.loads(report.read_text())
  assert {name: found[name] for name in ('lh_jax', 'jax', 'device', 'dtype', 'checkpoint', 'interrupted')} == {
    'lh_jax': lh_jax.__version__,
    'jax': jax.__version__,
    'device': 'cpu',
    'dtype': 'float32',
    'checkpoint': model,
    'interrupted': False,
  }
  options = found['options']
  assert (options['alpha'], options['tile'], options['max_memory'], options['overwrite']) == (
    0.25,
    'auto',
    2**30,
    False,
  )
  assert found['seconds'] > 0 and found['totals']['restored'] == 2 and found['totals']['skipped'] == 1
  skipped, jpeg, bitmap = found['files']
  assert skipped['status'] == 'skipped' and skipped['width'] is None
  assert (jpeg['width'], jpeg['height'], jpeg['bits'], jpeg['alpha']) == (24, 16, 8, 0.25)
  assert set(jpeg['seconds']) == {'read', 'restore', 'write'} and 'window' in jpeg
  assert bitmap['output'].endswith('d.png') and 'written as PNG' in bitmap['notes'][0]


def test_a_report_that_fails_in_the_end(photographs, tmp_path, model, monkeypatch, capsys):
  from lh_jax import reports

  def full(*arguments):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(reports, 'write', full)
  command = [str(photographs), '-o', str(tmp_path / 'out'), '--checkpoint', model, '--report', str(tmp_path / 'r.json')]
  assert restore.main(command) == 1
  assert 'r.json could not be written' in capsys.readouterr().err


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['nowhere.png', '-o', 'x.png'], 'nowhere.png does not exist'),
    (['IN', '-o', 'IN'], 'is the input folder itself'),
    (['IN/a.png', 'IN/a.png', '-o', 'out'], 'Several inputs would be written to'),
    (['IN/a.png', '-o', 'x.png', '--alpha', '2'], r'2 is not in \[0, 1\]'),
    (['IN/a.png', '-o', 'x.png', '--checkpoint', 'nowhere'], 'nowhere holds no export'),
    (['IN/a.png', '-o', 'x.png', '--devices', '1000'], 'devices must lie between 1 and'),
    (['IN/a.png', '-o', 'x.png', '--report', 'report.txt'], 'must have a name that ends in .json'),
    (['IN/a.png', '-o', 'x.png', '--report', 'IN/a.png/report.json'], 'report.json cannot be written'),
    (['IN/a.png'], 'required: -o/--output'),
  ],
)
def test_usage_errors_exit_with_2(photographs, tmp_path, model, capsys, monkeypatch, arguments, message):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'IN').symlink_to(photographs)
  arguments = arguments if '--checkpoint' in arguments else [*arguments, '--checkpoint', model]
  with pytest.raises(SystemExit) as stop:
    restore.main(arguments)
  assert stop.value.code == 2
  assert re.search(message, capsys.readouterr().err)
  assert not (tmp_path / 'out').exists() and not (tmp_path / 'x.png').exists()


def test_no_checkpoint(photographs, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(exports, 'BUNDLED', tmp_path / 'none')
  with pytest.raises(SystemExit) as stop:
    restore.main([str(photographs), '-o', str(tmp_path / 'out')])
  assert stop.value.code == 2 and 'bundled weights are missing' in capsys.readouterr().err


@pytest.mark.parametrize('metadata', options_lib.METADATA)
def test_metadata(tmp_path, model, metadata):
  """EXIF is kept or not, the profile always; pixels stand upright, and the tag says so."""
  profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
  exif = Image.Exif()
  exif[MAKER], exif[ORIENTATION] = 'Maker', 6
  source, target = tmp_path / 'a.jpg', tmp_path / 'b.jpg'
  Image.fromarray(np.full((24, 16, 3), 90, np.uint8)).save(source, exif=exif, icc_profile=profile)
  assert restore.main([str(source), '-o', str(target), '--checkpoint', model, '--metadata', metadata]) == 0
  with Image.open(target) as image:
    assert image.size == (24, 16)
    assert image.info['icc_profile'] == profile
    found = image.getexif()
    assert (found.get(MAKER), found.get(ORIENTATION)) == (('Maker', 1) if metadata == 'keep' else (None, None))


def test_16_bits_grey_and_transparency_stay(tmp_path, model):
  folder, out, report = tmp_path / 'in', tmp_path / 'out', tmp_path / 'report.json'
  pixels = np.random.default_rng(0).integers(0, 65536, (16, 24, 3), dtype=np.uint16)
  grey = np.repeat(pixels[:, :, :1], 3, axis=2)
  photos = {
    'deep.png': image_files.Photo(pixels),
    'deep.tif': image_files.Photo(pixels),
    'grey16.png': image_files.Photo(grey, grey=True),
    'clear.png': image_files.Photo((pixels >> 8).astype(np.uint8), alpha=(pixels[:, :, 0] >> 8).astype(np.uint8)),
    'grey clear.png': image_files.Photo(grey, grey=True, alpha=pixels[:, :, 1]),
  }
  for name, photo in photos.items():
    image_files.write_photo(folder / name, photo)
  assert restore.main([str(folder), '-o', str(out), '--checkpoint', model, '--report', str(report)]) == 0
  assert written(out) == sorted(photos)
  for name, photo in photos.items():
    found = image_files.read_photo(out / name)
    assert found.pixels.dtype == photo.pixels.dtype and found.grey == photo.grey
    assert (found.alpha is None) == (photo.alpha is None)
    if photo.alpha is not None:
      np.testing.assert_array_equal(found.alpha, photo.alpha)
  bits = {row['output'].rpartition('/')[2]: row['bits'] for row in json.loads(report.read_text())['files']}
  assert bits == {name: 8 * photo.pixels.itemsize for name, photo in photos.items()}
  # More than 256 levels: not 8 bits in 16.
  assert len(np.unique(image_files.read_rgb(out / 'deep.png'))) > 256


def test_quality(photographs, tmp_path, model):
  noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
  Image.fromarray(noise).save(photographs / 'noise.png')
  sizes = []
  for quality in (30, 95):
    out = tmp_path / f'{quality}.jpg'
    command = [str(photographs / 'noise.png'), '-o', str(out), '--checkpoint', model, '--quality', str(quality)]
    assert restore.main(command) == 0
    with Image.open(out) as image:
      sizes.append(sum(image.quantization[0]))
  assert sizes[0] > sizes[1]


def test_devices_and_dtype_reach_the_model(photographs, tmp_path, model, shared, monkeypatch):
  asked = {}

  def from_pretrained(path, **options):
    asked.update(options)
    return shared(path, dtype='auto', devices=1)

  monkeypatch.setattr(inference.Restorer, 'from_pretrained', from_pretrained)
  report = tmp_path / 'report.json'
  command = [str(photographs), '-o', str(tmp_path / 'out'), '--checkpoint', model, '--report', str(report)]
  assert restore.main([*command, '--devices', '2', '--dtype', 'bfloat16']) == 0
  assert asked == {'devices': 2, 'dtype': 'bfloat16'}
  found = json.loads(report.read_text())
  assert (found['device'], found['dtype']) == ('2 x cpu', 'bfloat16')


def test_an_idle_gpu_is_pointed_out(photographs, tmp_path, model, monkeypatch, capsys):
  monkeypatch.delenv('JAX_PLATFORMS')
  monkeypatch.setattr(restore, 'gpu_is_present', lambda: True)
  assert restore.main([str(photographs / 'a.png'), '-o', str(tmp_path / 'x.png'), '--checkpoint', model]) == 0
  assert 'WARNING: there is an NVIDIA GPU, but JAX runs on the CPU' in capsys.readouterr().err


def test_mode_restore(photographs, tmp_path, model, tiny_config):
  with pytest.raises(ValueError, match='needs --config.restore.input=PATH'):
    restore.restore_config(tiny_config, tmp_path)
  out, report = tmp_path / 'out', tmp_path / 'report.json'
  tiny_config.restore.update({'input': str(photographs), 'output': str(out), 'checkpoint': model})
  for name, value, message in (
    ('alpha', 2.0, r'restore.alpha: 2.0 is not in \[0, 1\]'),
    ('tile', 'half', "restore.tile: 'half' is not auto, full"),
    ('max_memory', 'lots', "restore.max_memory: 'lots' is no memory size"),
    ('devices', 0, 'restore.devices: 0 is less than 1'),
    ('metadata', 'drop', "restore.metadata: 'drop' is not one of keep, strip"),
    ('quality', 0, 'restore.quality: 0 is less than 1'),
    ('max_memory', '1G', 'max-memory chooses the tile, so it goes with tile auto only; got tile 16'),
  ):
    config = tiny_config.copy_and_resolve_references()
    config.restore.tile = '16'
    config.restore[name] = value
    with pytest.raises(ValueError, match=message):
      restore.restore_config(config, tmp_path)
  assert restore.restore_config(tiny_config, tmp_path) == 0
  assert written(out) == ['a.png', 'b ü.jpg']
  settings = {'checkpoint': '', 'recursive': True, 'report': str(report), 'max_memory': '1G'}
  tiny_config.restore.update(settings)
  assert restore.restore_config(tiny_config, model) == 0
  assert written(out) == ['a.png', 'b ü.jpg', 'sub/c.png']
  assert json.loads(report.read_text())['totals']['skipped'] == 2
