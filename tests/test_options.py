"""The options of lh-restore: what they may be, and that their help is complete and quick."""

import dataclasses

import pytest

from lh_jax import inference
from lh_jax import options
from lh_jax.data import image_files

from tests.test_house import loaded

LINE = ['in', '-o', 'out']


def parsed(*arguments):
  return options.parser().parse_args([*LINE, *arguments])


def test_defaults_are_those_of_the_class():
  found = vars(parsed())
  assert {name: found.pop(name) for name in ('inputs', 'output')}
  assert options.Options(**found) == options.Options(checkpoint=None)


def test_values():
  assert parsed('--alpha', 'auto').alpha is None and parsed('--alpha', '0.25').alpha == 0.25
  assert [parsed('--tile', text).tile for text in ('auto', 'full', '512')] == ['auto', 'full', 512]
  assert parsed('--max-memory', '1.5G').max_memory == 3 * 2**29
  assert parsed('--devices', '2').devices == 2 and parsed('--quality', '80').quality == 80


def test_names_are_those_of_the_modules_that_read_them():
  assert options.DTYPES == ('auto', *inference.DTYPES)
  assert options.METADATA == image_files.METADATA


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['--alpha', '2'], 'argument --alpha: 2 is not in [0, 1]'),
    (['--alpha', 'nan'], 'argument --alpha: nan is not in [0, 1]'),
    (['--alpha', 'most'], "argument --alpha: 'most' is not a number in [0, 1], or auto"),
    (['--tile', 'half'], "argument --tile: 'half' is not auto, full or a number of pixels"),
    (['--tile', '0'], 'argument --tile: 0 is less than 1; allowed is auto, full or a number of pixels'),
    (['--max-memory', 'lots'], "'lots' is no memory size"),
    (['--devices', '0'], '0 is less than 1'),
    (['--quality', '101'], '101 is not in 1 to 100'),
    (['--metadata', 'drop'], "argument --metadata: 'drop' is not one of keep, strip"),
    (['--dtype', 'float16'], "argument --dtype: 'float16' is not one of auto, float32, bfloat16"),
    (['--colour', 'on'], 'unrecognized arguments: --colour'),
  ],
)
def test_mistakes(capsys, arguments, message):
  with pytest.raises(SystemExit) as stop:
    parsed(*arguments)
  assert stop.value.code == 2
  assert message in capsys.readouterr().err


@pytest.fixture
def cache(monkeypatch, tmp_path):
  monkeypatch.setenv('LH_JAX_CACHE', str(tmp_path))
  monkeypatch.chdir(tmp_path)
  return tmp_path


def test_names_of_published_networks(cache):
  with pytest.raises(ValueError, match='restormer_deraining is not converted yet: .*convert restormer_deraining'):
    options.Options(checkpoint='restormer_deraining')
  (cache / 'restormer_deraining.safetensors').touch()
  found = options.Options(checkpoint='restormer_deraining')
  assert found.on_pixels and found.checkpoint == str(cache / 'restormer_deraining.safetensors')
  with pytest.raises(ValueError, match='dinov2_vits14 is no network that restores images'):
    options.Options(checkpoint='dinov2_vits14')
  # A run of that name is a run.
  (cache / 'restormer_deraining').mkdir()
  assert options.Options(checkpoint='restormer_deraining').checkpoint == 'restormer_deraining'


@pytest.mark.parametrize(
  'path, command',
  [('a/weights.PTH', 'NAME a/weights.PTH OUT'), ('deraining.pth', 'restormer_deraining deraining.pth OUT')],
)
def test_published_files_have_to_be_converted(cache, path, command):
  with pytest.raises(ValueError, match=f'convert it with `python -m lh_jax.convert {command}.safetensors`'):
    options.Options(checkpoint=path)


def test_files_are_told_from_folders(cache):
  assert options.Options(checkpoint='X.SafeTensors').on_pixels
  for name in ('run.safetensors', 'run.pth'):
    (cache / name).mkdir()
    assert not options.Options(checkpoint=name, alpha=0.5).on_pixels


def test_help_lists_every_option(capsys):
  with pytest.raises(SystemExit) as stop:
    parsed('--help')
  text = capsys.readouterr().out
  assert stop.value.code == 0
  for field in dataclasses.fields(options.Options):
    assert f'--{field.name.replace("_", "-")}' in text
  assert '--output' in text and 'exit codes' in text


def test_help_loads_nothing_heavy():
  """Not a measured time, which the machine decides, but what would take it."""
  code = (
    'import contextlib; from lh_jax import restore\n'
    'with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None): restore.main(["--help"])\n'
    'pass'
  )
  assert not loaded(code, ('jax', 'numpy', 'PIL', 'absl', 'ml_collections', 'tqdm'))
