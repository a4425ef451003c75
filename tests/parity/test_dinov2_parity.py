"""DINOv2 against transformers and torch, live: the full ViT-S/14 on random weights, block by block.

Needs torch, transformers and the packages of lh_jax; the basic suite compares with the committed golden values.
"""

from __future__ import annotations

import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import weight_files
from lh_jax.convert import dinov2
from lh_jax.convert import layouts
from lh_jax.convert import pth_reader
from lh_jax.convert import tensor_files
from lh_jax.models import foundation
from lh_jax.models.foundation import vit

torch = pytest.importorskip('torch', reason='needs torch, the implementation to compare with')
transformers = pytest.importorskip('transformers', reason='needs transformers, the implementation to compare with')

pytestmark = pytest.mark.parity

TOLERANCE = 1e-4  # Largest error over largest value, float32.
VIT_S = dict(dim=384, depth=12, heads=6)


def _load_recipe():
  path = pathlib.Path(__file__).with_name('make_dinov2_golden.py')
  spec = importlib.util.spec_from_file_location('make_dinov2_golden', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


recipe = _load_recipe()


def abstract(module):
  side = 2 * module.patch
  return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))['params']


def to_numpy(state):
  return {name: value.numpy() for name, value in state.items()}


def relative_error(found, expected):
  return np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()


def errors(module, params, model, size):
  """Relative error of every block's hidden state, of the final tokens and of the token map."""
  images = recipe.image(size)
  apply = jax.jit(functools.partial(module.apply, capture_intermediates=True))
  tokens, state = apply({'params': params}, images)
  expected = recipe.hidden_states(model, images)
  found = {f'block_{i}': state['intermediates'][f'block_{i}']['__call__'][0] for i in range(module.depth)}
  found['norm'] = state['intermediates']['norm']['__call__'][0]
  result = {name: relative_error(value, expected[name]) for name, value in found.items()}
  patches = expected['norm'][:, 1 + module.registers :]
  result['map'] = relative_error(tokens.reshape(patches.shape), patches)
  print(size, {name: float(f'{value:.1e}') for name, value in result.items()})
  assert len(result) == len(expected) + 1
  return result


@pytest.fixture(scope='module')
def vit_s():
  return recipe.transformers_model(0, **VIT_S)


# The stored grid, on transformers as it is, and two others with the official positions.
@pytest.mark.parametrize('size', [(518, 518), (224, 224), (140, 308)])
def test_vit_s14(vit_s, size, monkeypatch):
  module = foundation.build('dinov2_vits14').module
  params = layouts.convert(to_numpy(recipe.official_state_dict(vit_s)), abstract(module), dinov2.LAYOUTS)
  if size != (518, 518):
    monkeypatch.setattr(vit_s.embeddings, 'interpolate_pos_encoding', None)
    recipe.use_official_positions(vit_s)
  assert max(errors(module, params, vit_s, size).values()) < TOLERANCE


# With registers, transformers' own resizing is the official one.
@pytest.mark.parametrize('size', [(224, 224), (140, 308)])
def test_vit_s14_with_registers(size):
  module = foundation.build('dinov2_vits14_reg4').module
  model = recipe.transformers_model(1, registers=4, **VIT_S)
  params = layouts.convert(to_numpy(recipe.official_state_dict(model)), abstract(module), dinov2.LAYOUTS)
  assert max(errors(module, params, model, size).values()) < TOLERANCE


def test_swiglu():
  options = dict(dim=48, depth=3, heads=3, grid=8, swiglu=True)
  module = vit.VisionTransformer(**options)
  model = recipe.transformers_model(2, **options)
  params = layouts.convert(to_numpy(recipe.official_state_dict(model)), abstract(module), dinov2.LAYOUTS)
  assert max(errors(module, params, model, (112, 112)).values()) < TOLERANCE


def test_transformers_own_positions_differ_from_the_official_ones(vit_s):
  # The reason why the tests above give transformers the official positions: its tokens at 224 pixels are further from
  # ours than the tolerance, and the positions are all that differs.
  table = vit_s.embeddings.position_embeddings.detach()
  theirs = vit_s.embeddings.interpolate_pos_encoding(torch.zeros(1, 257, 384), 224, 224).detach()[0, 1:].numpy()
  grid = table[0, 1:].reshape(37, 37, 384)
  ours = vit.resize_positions(jnp.asarray(grid.numpy()), (16, 16), antialias=False).reshape(256, 384)
  official = recipe.resized_positions(grid, (16, 16), registers=False).reshape(256, 384).numpy()
  print('official', relative_error(ours, official), 'transformers', relative_error(ours, theirs))
  assert relative_error(ours, official) < TOLERANCE
  assert relative_error(ours, theirs) > 100 * TOLERANCE


@pytest.mark.parametrize('registers', [False, True])
@pytest.mark.parametrize('size', [(16, 16), (32, 32), (37, 37), (5, 61), (37, 20), (74, 37)])
def test_positions(size, registers):
  table = recipe.position_table()
  expected = recipe.resized_positions(torch.from_numpy(table), size, registers=registers).numpy()
  found = vit.resize_positions(jnp.asarray(table), size, antialias=registers)
  np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(
  'name, prefix', [('dinov2_vits14', ''), ('dinov2_vits14', 'dinov2.'), ('dinov2_vits14_reg4', '')]
)
def test_pth_and_safetensors_give_the_same_tree(name, prefix, tmp_path):
  # The files as torch.save and save_pretrained write them, of the real size.
  model = recipe.transformers_model(3, registers=4 if name.endswith('reg4') else 0, **VIT_S)
  torch.save(recipe.official_state_dict(model), tmp_path / 'official.pth')
  if prefix:
    head = transformers.Dinov2ForImageClassification(model.config)
    head.dinov2.load_state_dict(model.state_dict())
    head.save_pretrained(tmp_path)
  else:
    model.save_pretrained(tmp_path)
  like = foundation.build(name).abstract_params()
  first = layouts.convert(tensor_files.read(tmp_path / 'official.pth'), like, dinov2.LAYOUTS)
  second = layouts.convert(tensor_files.read(tmp_path / 'model.safetensors'), like, dinov2.LAYOUTS)
  jax.tree.map(np.testing.assert_array_equal, first, second)
  weight_files.save(tmp_path / 'ours.safetensors', first, {'name': name})
  third = weight_files.load_foundation(name, tmp_path / 'ours.safetensors', like)
  jax.tree.map(np.testing.assert_array_equal, first, third)


def test_reader_equals_torch_on_unusual_tensors(tmp_path):
  base = torch.arange(24, dtype=torch.float32)
  state = {
    'transposed': base.reshape(4, 6).T,
    'slice': base[5:17:3],
    'expanded': base[3].expand(2, 3),
    'scalar': base[7],
    'empty': torch.zeros(0, 3),
    'half': base.half(),
    'double': base.double(),
    'integers': torch.arange(5),
    'flags': torch.tensor([True, False]),
    'parameter': torch.nn.Parameter(base.reshape(2, 12)),
    'bfloat16': torch.linspace(-3, 3, 17).bfloat16(),
  }
  torch.save(state, tmp_path / 'x.pth')
  read = pth_reader.read_pth(tmp_path / 'x.pth')
  assert list(read) == list(state)
  for name, value in state.items():
    expected = (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
    assert read[name].dtype == expected.dtype
    np.testing.assert_array_equal(read[name], expected)


def test_reader_on_a_module_state_dict(tmp_path):
  # state_dict() carries an attribute, _metadata, that a plain dict has not.
  module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
  torch.save(module.state_dict(), tmp_path / 'x.pth')
  read = pth_reader.read_pth(tmp_path / 'x.pth')
  assert {name: value.shape for name, value in read.items()} == {
    name: tuple(value.shape) for name, value in module.state_dict().items()
  }


def test_whole_modules_and_old_files_are_refused(tmp_path):
  torch.save(torch.nn.Linear(2, 3), tmp_path / 'module.pth')
  with pytest.raises(ValueError, match=r'it refers to torch\.nn\.modules\.linear\.Linear'):
    pth_reader.read_pth(tmp_path / 'module.pth')
  torch.save({'a': torch.zeros(2)}, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
  with pytest.raises(ValueError, match=r'format of torch < 1\.6'):
    pth_reader.read_pth(tmp_path / 'old.pth')


def test_golden_values_are_up_to_date():
  with np.load(recipe.FIXTURES / 'dinov2_golden.npz') as file:
    stored = dict(file)
  fresh = recipe.golden()
  assert stored.keys() == fresh.keys()
  for name, value in fresh.items():
    np.testing.assert_allclose(stored[name], value, atol=1e-5, err_msg=name)


@pytest.mark.parametrize('seed, name', list(enumerate(recipe.TINY)))
def test_committed_checkpoints_are_up_to_date(seed, name):
  fresh = recipe.official_state_dict(recipe.transformers_model(seed, **recipe.TINY[name]))
  stored = pth_reader.read_pth(recipe.FIXTURES / f'{name}.pth')
  assert stored.keys() == fresh.keys()
  for key, value in fresh.items():
    np.testing.assert_array_equal(stored[key], value.numpy())
