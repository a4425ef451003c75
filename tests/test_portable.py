"""A portable model gives what the model gives, without its code, and says what is wrong with its file."""

import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest

from lh_jax import exports
from lh_jax import inference
from lh_jax import networks as networks_lib
from lh_jax import portable
from lh_jax import save_portable
from lh_jax import windows

from tests.conftest import ROOT, tiny_config, tiny_model

pytestmark = pytest.mark.usefixtures('windows_of_any_size')

TILED, SMALL = (201, 136), (9, 17)  # (width, height); the small one is smaller than a tile
TILES = (60, 1)


def image_of(size, dtype=np.uint8):
  image = np.random.default_rng(size[0]).uniform(0, 1, (*size[::-1], 3)).astype(np.float32)
  return image if dtype == np.float32 else (image * np.iinfo(dtype).max).astype(dtype)


@pytest.fixture(scope='module')
def restorer():
  return inference.Restorer(*tiny_model())


@pytest.fixture(scope='module')
def path(restorer, tmp_path_factory):
  path = tmp_path_factory.mktemp('portable') / 'model.lh'
  save_portable.save(path, restorer.programs, [TILED, SMALL], tile=TILES, dtype='float32')
  return path


@pytest.fixture(scope='module')
def model(path):
  return portable.load(path)


def rewritten(path, out, *, manifest=None, entries=None, keep_digests=False):
  """Writes a changed copy of a portable model."""
  with zipfile.ZipFile(path) as archive:
    found = {name: archive.read(name) for name in archive.namelist()} | (entries or {})
  described = json.loads(found[portable.MANIFEST]) | (manifest or {})
  if not keep_digests:
    described['sha256'] = {name: hashlib.sha256(found[name]).hexdigest() for name in described['sha256']}
  found[portable.MANIFEST] = json.dumps(described).encode()
  with zipfile.ZipFile(out, 'w') as archive:
    for name, data in found.items():
      archive.writestr(name, data)
  return out


@pytest.mark.parametrize('size', [TILED, SMALL])
@pytest.mark.parametrize('alpha', [0.0, 0.3, 1.0])
def test_round_trip(restorer, model, size, alpha):
  image = image_of(size)
  expected = restorer.run(image, alpha=alpha, tile=TILES[0])
  found = model.run(image, alpha=alpha)
  np.testing.assert_array_equal(found.image, expected.image)
  assert found.image.dtype == np.uint8 and found.window == expected.window and found.notes == ()
  assert (found.window is None) == (size == SMALL)


def test_alpha_is_an_input(model):
  image = image_of(SMALL)
  assert (model.restore(image, alpha=0.0) != model.restore(image, alpha=1.0)).any()
  np.testing.assert_array_equal(model.restore(image), model.restore(image, alpha=inference.DEFAULT_ALPHA))


def test_an_image_of_as_many_cells_is_restored_too(restorer, model):
  image = image_of((SMALL[0] + 3, SMALL[1] + 2))
  np.testing.assert_array_equal(model.restore(image), restorer.restore(image, tile='full'))


def test_progress_runs_from_nothing_to_all(model):
  shares = []
  model.run(image_of(TILED), progress=shares.append)
  assert shares == sorted(shares) and shares[0] > 0.0 and shares[-1] == pytest.approx(1.0)


def test_rows_over_devices(path, model):
  image = image_of(SMALL)
  np.testing.assert_array_equal(portable.load(path, devices=2).restore(image), model.restore(image))
  with pytest.raises(ValueError, match='devices must lie between 1 and 8'):
    portable.load(path, devices=9)


def test_no_model_code_is_needed(model, path, tmp_path):
  """In a fresh interpreter, in which the code of the model cannot even be imported."""
  image = image_of(SMALL)
  np.save(tmp_path / 'image.npy', image)
  code = f"""
import sys
banned = ('flax', 'optax', 'orbax', 'ml_collections', 'lh_jax.models', 'lh_jax.networks', 'lh_jax.programs',
  'lh_jax.planning', 'lh_jax.exports', 'lh_jax.inference', 'lh_jax.weight_files', 'lh_jax.save_portable')
sys.modules.update(dict.fromkeys(banned))
import numpy as np
from lh_jax import portable
restored = portable.load({str(path)!r}).restore(np.load('image.npy'), alpha=0.3)
np.save('restored.npy', restored)
assert not [name for name in banned if sys.modules[name] is not None]
print(*sorted(name for name in sys.modules if name.startswith('lh_jax')))
"""
  command = [sys.executable, '-W', 'error', '-c', code]
  found = subprocess.run(
    command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {'PYTHONPATH': str(ROOT)}
  )
  assert found.returncode == 0, found.stderr
  np.testing.assert_array_equal(np.load(tmp_path / 'restored.npy'), model.restore(image, alpha=0.3))


def test_bfloat16_falls_back_on_float32(restorer, tmp_path, monkeypatch):
  path = tmp_path / 'model.lh'
  save_portable.save(path, restorer.programs, [SMALL], dtype='bfloat16', platforms=['cpu'])
  model, image = portable.load(path), image_of(SMALL)
  expected = restorer.restore(image, tile='full').astype(int)
  found = model.run(image)
  assert found.notes == () and 0 < np.abs(found.image - expected).max() <= 8
  programs = model._programs
  get = programs.get

  def overflowing(stage, *arguments):
    program = get(stage, *arguments)
    if stage != 'decode':
      return program
    return windows.Program(lambda *arguments: (program.run(*arguments)[0], np.bool_(False)), 0)

  monkeypatch.setattr(programs, 'get', overflowing)
  found = model.run(image)
  assert found.notes == ('decode: non-finite values in bfloat16, computed again in float32',)
  assert np.abs(found.image - expected).max() <= 8


def dtypes_of(programs):
  return {(program['dtype'], program['stage']) for program in programs}


def test_auto_holds_float32_for_cpus_and_bfloat16_for_others(restorer, tmp_path):
  path = tmp_path / 'model.lh'
  save_portable.save(path, restorer.programs, [SMALL], platforms=['cpu', 'tpu'])
  model = portable.load(path)
  assert len(dtypes_of(model.manifest['programs'])) == 6 and model._programs.exact
  with zipfile.ZipFile(path) as archive:
    lowered = jax.export.deserialize(bytearray(archive.read('programs/restore-2x3-bfloat16')))
  assert lowered.platforms == ('tpu',)
  save_portable.save(path, restorer.programs, [SMALL], platforms=['cpu'])
  assert {name for name, _ in dtypes_of(portable.load(path).manifest['programs'])} == {'float32'}


def test_a_file_names_no_folder_and_is_the_same_each_time(restorer, path, tmp_path):
  again = tmp_path / 'again.lh'
  save_portable.save(again, restorer.programs, [TILED, SMALL], tile=TILES, dtype='float32')
  assert again.read_bytes() == path.read_bytes()
  assert [found.name for found in tmp_path.iterdir()] == ['again.lh']
  assert str(ROOT).encode() not in path.read_bytes() and sys.prefix.encode() not in path.read_bytes()


def test_a_full_memory_goes_on_with_the_next_tile(model, monkeypatch):
  image = image_of(TILED)
  expected = model.restore(image)
  get = model._programs.get
  first, second = (rows * columns for rows, columns in model.manifest['sizes'][0]['windows'])
  assert second < first
  limit = [second]

  def limited(stage, rows, columns, dtype):
    if stage != 'restore' and rows * columns > limit[0]:
      raise RuntimeError('RESOURCE_EXHAUSTED: out of memory')
    return get(stage, rows, columns, dtype)

  monkeypatch.setattr(model._programs, 'get', limited)
  found = model.run(image)
  height, width = found.window
  assert found.notes[-1] == f'memory ran out; going on with windows of {width}x{height} pixels'
  np.testing.assert_array_equal(found.image, expected)
  limit[0] = 0
  with pytest.raises(MemoryError, match=f'window of {width}x{height} pixels does not fit .* holds no smaller ones'):
    model.run(image)


def test_images_that_it_does_not_take(model):
  with pytest.raises(ValueError, match=r'for images of 201x136, 9x17 pixels .* got 30x20: .* --size 30x20'):
    model.restore(image_of((30, 20)))
  with pytest.raises(ValueError, match='programs for uint8 pixels, got uint16: .* --pixels uint8 uint16'):
    model.restore(image_of(SMALL, np.uint16))
  with pytest.raises(ValueError, match=r'An image must have shape \(H, W, 3\)'):
    model.restore(image_of(SMALL)[..., 0])
  with pytest.raises(ValueError, match=r'alpha must lie in \[0, 1\], got 1.5'):
    model.restore(image_of(SMALL), alpha=1.5)
  assert model.sizes == [TILED, SMALL]


def test_files_of_another_kind(path, tmp_path):
  other = tmp_path / 'other'
  for data in (b'', b'text', path.read_bytes()[:-100]):
    other.write_bytes(data)
    with pytest.raises(ValueError, match='is no portable model, or only part of one'):
      portable.load(other)
  for entries in ({'a': '1'}, {portable.MANIFEST: '[]'}, {portable.MANIFEST: '{}'}, {portable.MANIFEST: 'text'}):
    with zipfile.ZipFile(other, 'w') as archive:
      for name, text in entries.items():
        archive.writestr(name, text)
    with pytest.raises(ValueError, match='is no portable model'):
      portable.load(other)
  with pytest.raises(FileNotFoundError, match='missing'):
    portable.load(tmp_path / 'missing')


def test_damaged_files(path, tmp_path):
  other = tmp_path / 'other'
  data = bytearray(path.read_bytes())
  data[data.index(b'StableHLO') + 3] ^= 1
  other.write_bytes(data)
  with pytest.raises(ValueError, match=r'is damaged: its entry programs/\S+ is not what was written'):
    portable.load(other)
  rewritten(path, other, entries={portable.WEIGHTS: b'others'}, keep_digests=True)
  with pytest.raises(ValueError, match='is damaged: its entry weights.npz'):
    portable.load(other)


def test_newer_files_and_other_platforms(path, tmp_path):
  other = tmp_path / 'other'
  with pytest.raises(ValueError, match='has portable format 2, this version reads 1'):
    portable.load(rewritten(path, other, manifest={'format': 2}))
  with pytest.raises(ValueError, match='programs of calling convention 999, and JAX .* update JAX to 99.0'):
    portable.load(rewritten(path, other, manifest={'calling_convention': 999, 'jax': '99.0'}))
  with pytest.raises(ValueError, match='holds programs for cuda, tpu, and JAX runs on cpu: .* --platforms cpu'):
    portable.load(rewritten(path, other, manifest={'platforms': ['cuda', 'tpu']}))
  name = 'programs/encode-2x3-uint8-float32'
  unreadable = portable.load(rewritten(path, other, entries={name: b'\0' * 64}))
  with pytest.raises(ValueError, match=f'JAX {re.escape(jax.__version__)} cannot read the programs that JAX'):
    unreadable.restore(image_of(SMALL))


def test_what_cannot_be_saved(restorer, tmp_path):
  programs, path = restorer.programs, tmp_path / 'model.lh'
  for options, message in (
    ({'dtype': 'float16'}, 'dtype must be some of auto, float32, bfloat16; got float16'),
    ({'pixels': ['int8']}, 'pixels must be some of .* got int8'),
    ({'platforms': []}, 'platforms must be some of .* got none'),
    ({'tile': ['auto']}, 'what fits is not known on another machine'),
    ({'tile': [0]}, 'tile must be at least 1 pixel'),
  ):
    with pytest.raises(ValueError, match=message):
      save_portable.save(path, programs, [TILED], **options)
  with pytest.raises(ValueError, match='needs at least one image size'):
    save_portable.save(path, programs, [])
  group = inference.Restorer(*tiny_model(vae={'norm': 'group'})).programs
  with pytest.raises(ValueError, match='takes in the whole image .* with --tile full'):
    save_portable.save(path, group, [TILED], tile=[40])
  assert not path.exists()


def test_command(tmp_path, capsys):
  config = tiny_config()
  sections = {name: config[name].to_dict() for name in networks_lib.SECTIONS}
  _, params = tiny_model()
  exports.save(tmp_path / 'run' / 'export', exports.Export(sections=sections, params=params, stage='stage2'))
  file = tmp_path / 'new' / 'model.lh'
  arguments = [str(tmp_path / 'run'), '-o', str(file), '--size', '9x17']
  changes = ['--pixels', 'uint8', 'float32', '--platforms', 'cpu', '--tile', 'full', '--licence', 'CC0']
  assert save_portable.main([*arguments, *changes]) == 0
  assert re.search(r'wrote .*model\.lh \(\d+ MiB\) in [\d.]+ s', capsys.readouterr().out)
  model = portable.load(file)
  assert model.manifest['licence'] == 'CC0' and model.manifest['platforms'] == ['cpu']
  image = image_of(SMALL, np.float32)
  restorer = inference.Restorer.from_pretrained(tmp_path / 'run')
  np.testing.assert_array_equal(model.restore(image), restorer.restore(image, tile='full'))
  for wrong, message in (
    (['--size', '4k'], "'4k' is no image size; write it like 3840x2160"),
    (['--tile', 'auto'], "'auto' is no tile; write full, or a number of pixels"),
    (['--pixels', 'int8'], 'invalid choice'),
  ):
    with pytest.raises(SystemExit, match='2'):
      save_portable.main([*arguments, *wrong])
    assert message in capsys.readouterr().err
  with pytest.raises(SystemExit, match='2'):
    save_portable.main([str(tmp_path), *arguments[1:]])
  assert 'holds no export' in capsys.readouterr().err
