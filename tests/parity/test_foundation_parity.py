"""MAE, CLIP, SigLIP and SAM against transformers, live, through our converter: random weights, block by block.

Needs torch, transformers and the packages of lh_jax; the basic suite compares with the committed golden values. DINOv2
has a file of its own.
"""

from __future__ import annotations

import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.convert import layouts
from lh_jax.convert import sources
from lh_jax.convert import tensor_files
from lh_jax.models import foundation

torch = pytest.importorskip('torch', reason='needs torch, the implementation to compare with')

pytestmark = pytest.mark.parity

TOLERANCE = 1e-4  # Largest error over largest value, float32.
KINDS = ('mae', 'clip', 'siglip', 'sam')


def _load_recipe():
  path = pathlib.Path(__file__).with_name('make_foundation_golden.py')
  spec = importlib.util.spec_from_file_location('make_foundation_golden', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


recipe = _load_recipe()
try:
  transformers = recipe.load_transformers()
except ImportError:
  pytest.skip('needs transformers, the implementation to compare with', allow_module_level=True)


def tiny(kind):
  fields = dict(dim=8, heads=2, depth=2, patch=recipe.PATCH, grid=recipe.GRID)
  if kind == 'siglip':
    fields['hidden'] = recipe.SIGLIP_HIDDEN
  if kind == 'sam':
    fields |= dict(window=recipe.SAM_WINDOW, channels=recipe.SAM_CHANNELS)
  return foundation.FOUNDATIONS[f'tiny_{kind}'].module.clone(**fields)


def abstract(module):
  side = 2 * module.patch
  return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))['params']


def relative_error(found, expected):
  return np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()


def errors(kind, module, params, model, size):
  """Relative error of the state after every block and of the result."""
  images = recipe.image(size)
  result, state = jax.jit(functools.partial(module.apply, capture_intermediates=True))({'params': params}, images)
  found = {'final': result}
  count = result.shape[1] * result.shape[2]
  for i in range(module.depth):
    block = state['intermediates'][f'block_{i}']['__call__'][0]
    found[f'block_{i}'] = block[:, -count:].reshape(1, *result.shape[1:3], -1) if block.ndim == 3 else block
  expected = recipe.states(kind, model, images)
  assert set(found) == set(expected)
  worst = {name: relative_error(value, expected[name]) for name, value in found.items()}
  print(kind, size, {name: float(f'{value:.1e}') for name, value in worst.items()})
  return worst


# The whole published model, as transformers saves it: the name tables, what is left out, and the network in one.
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('seed', [10, 11])
def test_whole_checkpoint(kind, seed, tmp_path):
  model = recipe.whole_model(kind, seed)
  model.save_pretrained(tmp_path)
  module = tiny(kind)
  tensors = tensor_files.read(tmp_path / 'model.safetensors')
  params = layouts.convert(tensors, abstract(module), sources.LAYOUTS[kind])
  for size in (*recipe.IMAGE_SIZES, (40, 8), (4, 4)):
    assert max(errors(kind, module, params, model, size).values()) < TOLERANCE


@pytest.mark.parametrize('kind', KINDS)
def test_bfloat16(kind):
  model = recipe.whole_model(kind, 3)
  module = tiny(kind)
  params = layouts.convert(recipe.published_tensors(model), abstract(module), sources.LAYOUTS[kind])
  half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
  images = recipe.image((12, 28))
  found = np.asarray(jax.jit(module.apply)({'params': half}, jnp.asarray(images, jnp.bfloat16)), np.float32)
  expected = recipe.states(kind, model, images)['final']
  error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
  print(kind, f'{error:.1e}')
  assert error < 0.02


# torch is giving TorchScript up; CLIP's files stay.
@pytest.mark.filterwarnings('ignore:.*torch.jit.*:DeprecationWarning')
@pytest.mark.parametrize('method', ['script', 'trace'])
def test_torchscript_archives_are_read_as_state_dicts(method, tmp_path):
  class Network(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.visual = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
      self.scale = torch.nn.Parameter(torch.ones(2))
      self.sizes = [1, 2]
      self.register_buffer('input_resolution', torch.tensor(224))

    def forward(self, x):
      return self.visual(x) * self.scale.sum()

  network = Network().half()
  make = torch.jit.script if method == 'script' else lambda module: torch.jit.trace(module.float(), torch.ones(1, 2))
  archive = make(network)
  archive.save(str(tmp_path / 'x.pt'))
  found = tensor_files.read(tmp_path / 'x.pt')
  expected = {name: value.numpy() for name, value in archive.state_dict().items()}
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert found[name].dtype == value.dtype
    np.testing.assert_array_equal(found[name], value)


# name: (class, configuration) of transformers; counted on the meta device, where nothing takes memory.
FULL_SIZES = {
  'mae_vitb16': ('ViTMAE', dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, image_size=224)),
  'mae_vitl16': ('ViTMAE', dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, image_size=224)),
  'mae_vith14': (
    'ViTMAE',
    dict(hidden_size=1280, num_hidden_layers=32, num_attention_heads=16, image_size=224, patch_size=14),
  ),
  'clip_vitb16': ('CLIPVision', dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, patch_size=16)),
  'clip_vitb32': ('CLIPVision', dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, patch_size=32)),
  'clip_vitl14': ('CLIPVision', dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, patch_size=14)),
  'siglip_vitb16': ('SiglipVision', dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12)),
  'siglip_vitl16': (
    'SiglipVision',
    dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, image_size=256),
  ),
  'siglip_so400m14': (
    'SiglipVision',
    dict(hidden_size=1152, num_hidden_layers=27, num_attention_heads=16, patch_size=14, intermediate_size=4304),
  ),
  'sam_vitb16': ('SamVision', dict()),
  'sam_vitl16': (
    'SamVision',
    dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, global_attn_indexes=[5, 11, 17, 23]),
  ),
  'sam_vith16': (
    'SamVision',
    dict(hidden_size=1280, num_hidden_layers=32, num_attention_heads=16, global_attn_indexes=[7, 15, 23, 31]),
  ),
}


@pytest.mark.parametrize('name', FULL_SIZES)
def test_full_sizes(name):
  kind, fields = FULL_SIZES[name]
  config = getattr(transformers, f'{kind}Config')
  inner = 'mlp_dim' if kind == 'SamVision' else 'intermediate_size'
  fields = {inner: 4 * fields.get('hidden_size', 768)} | fields
  with torch.device('meta'):
    model = getattr(transformers, f'{kind}Model')(config(**fields))
  left_out = ('head.',)
  expected = {name: value.numel() for name, value in model.named_parameters() if not name.startswith(left_out)}
  params = foundation.build(name).abstract_params()
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == sum(expected.values())
