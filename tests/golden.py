"""Our networks on the inputs of the golden values in tests/fixtures: random weights of tiny networks, through our
converters, every block and the output, beside what an independent implementation made of them.

Each function yields (name, ours, theirs). The scripts in tests/parity that made the values say with which versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import functools
import json
import pathlib
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from lh_jax.convert import dinov2 as dinov2_converter
from lh_jax.convert import frequency_vae as frequency_vae_converter
from lh_jax.convert import layouts
from lh_jax.convert import restorers as restorers_converter
from lh_jax.convert import sources
from lh_jax.convert import tensor_files
from lh_jax.models import foundation
from lh_jax.models import restorers
from lh_jax.models import vae
from lh_jax.models.foundation import vit


from tests.parity import make_dinov2_golden
from tests.parity import make_foundation_golden
from tests.parity import make_frequency_vae_golden
from tests.parity import make_restorers_golden

Values = Iterator[tuple[str, Any, np.ndarray]]
FIXTURES = pathlib.Path(__file__).resolve().parent / 'fixtures'
FOUNDATIONS = ('mae', 'clip', 'siglip', 'sam')
# Fields in which a network of the fixtures differs from the tiny one for tests.
_FIELDS = {'mae': {}, 'clip': {}, 'siglip': {'hidden': 20}, 'sam': {'window': 3, 'channels': 8}}


def error(found: Any, expected: np.ndarray) -> float:
  """The largest difference, as a share of the largest value."""
  found = np.asarray(found)
  assert found.shape == expected.shape
  return float(np.abs(found - expected).max() / np.abs(expected).max())


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
  """The golden values of 'foundation', 'dinov2' or 'restorers'."""
  with np.load(FIXTURES / f'{name}_golden.npz') as file:
    return dict(file)


def abstract(module: Any) -> Any:
  """Shapes of a transformer's parameters."""
  return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))['params']


def transformer(kind: str) -> tuple[Any, Any]:
  """The network of one of FOUNDATIONS of which there are weights: (module, parameters)."""
  module = foundation.FOUNDATIONS[f'tiny_{kind}'].module
  module = module.clone(dim=8, heads=2, depth=2, patch=4, grid=5, **_FIELDS[kind])
  tensors = tensor_files.read(FIXTURES / f'foundation_{kind}.safetensors')
  return module, layouts.convert(tensors, abstract(module), sources.LAYOUTS[kind])


def states(module: Any, params: Any, images: Any) -> dict[str, jax.Array]:
  """The state after every block and the result, without class token, (1, h, w, channels)."""
  result, state = jax.jit(functools.partial(module.apply, capture_intermediates=True))({'params': params}, images)
  grid = result.shape[1:3]
  found = {'final': result}
  for i in range(module.depth):
    block = state['intermediates'][f'block_{i}']['__call__'][0]
    found[f'block_{i}'] = block[:, -grid[0] * grid[1] :].reshape(1, *grid, -1) if block.ndim == 3 else block
  return found


def transformers(kind: str) -> Values:
  """One of FOUNDATIONS against transformers."""
  module, params = transformer(kind)
  for size in make_foundation_golden.IMAGE_SIZES:
    found = states(module, params, make_foundation_golden.image(size))
    for name, value in found.items():
      yield f'{size} {name}', value, load('foundation')[f'{kind}/{size[0]}x{size[1]}/{name}']


def dinov2(name: str) -> Values:
  """DINOv2, without ('dinov2_tiny') or with registers ('dinov2_tiny_reg4'), against transformers."""
  module = vit.VisionTransformer(**make_dinov2_golden.TINY[name])
  params = layouts.convert(tensor_files.read(FIXTURES / f'{name}.pth'), abstract(module), dinov2_converter.LAYOUTS)
  apply = jax.jit(functools.partial(module.apply, capture_intermediates=True))
  for size in make_dinov2_golden.IMAGE_SIZES:
    tokens, state = apply({'params': params}, make_dinov2_golden.image(size))
    prefix = f'{name}/{size[0]}x{size[1]}'
    for layer in ('block_0', 'block_1', 'norm'):
      yield f'{size} {layer}', state['intermediates'][layer]['__call__'][0], load('dinov2')[f'{prefix}/{layer}']
    final = load('dinov2')[f'{prefix}/norm'][:, 1 + module.registers :]
    yield f'{size} result', tokens, final.reshape(1, size[0] // 4, size[1] // 4, 8)


def restorer(name: str) -> Values:
  """A network of make_restorers_golden, on pixels, against spandrel or the authors' code."""
  golden = load('restorers')
  module = restorers.build(**make_restorers_golden.NETWORKS[name], channels=3)
  shapes = json.loads(str(golden[f'{name}/shapes']))
  variables = restorers_converter.convert(make_restorers_golden.weights(shapes), module)
  apply = jax.jit(functools.partial(module.apply, train=False, capture_intermediates=True))
  for size in make_restorers_golden.SIZES:
    output, state = apply(variables, make_restorers_golden.image(size))
    found = {key: value['__call__'][0] for key, value in state['intermediates'].items() if '_block' in key}
    found['output'] = output
    prefix = f'{name}/{size[0]}x{size[1]}/'
    expected = {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}
    assert found.keys() == expected.keys()
    for key, value in expected.items():
      yield f'{size} {key}', found[key], value


def frequency_vae() -> Values:
  """The tiny form of `lh_fe`: every block, attention and change of resolution, against the authors' code."""
  recipe, golden = make_frequency_vae_golden, load('frequency_vae')
  shapes = {str(name): tuple(map(int, shape.split('x'))) for name, shape in zip(golden['names'], golden['shapes'])}
  model = vae.build(preset='tiny_fe', decoder_blocks=(2, 2, 2))
  like = jax.eval_shape(model.init, jax.random.key(0))
  params = layouts.convert(recipe.weights(shapes), like, frequency_vae_converter.LAYOUTS)
  for size in recipe.SIZES:
    cells = tuple(side // model.preset.factor for side in size)
    found = {}
    for half, module, argument, result in (
      ('encoder', model.encoder, recipe.image(size), 'moments'),
      ('decoder', model.decoder, recipe.latent(cells, 8), 'decoded'),
    ):
      apply = jax.jit(functools.partial(module.apply, capture_intermediates=True, mutable=['intermediates']))
      found[result], state = apply({'params': params[half]}, argument)
      for path, value in traverse_util.flatten_dict(state['intermediates']).items():
        if isinstance(value[0], jax.Array):
          found[f'{half}/{"/".join(path[:-1])}'] = value[0].reshape(-1)[:: recipe.STRIDE]
    prefix = f'{size[0]}x{size[1]}/'
    names = [name.removeprefix(prefix) for name in golden if name.startswith(prefix)]
    assert len(names) == 24
    for name in names:
      expected = golden[prefix + name]
      yield f'{size} {name}', found[name].reshape(expected.shape), expected


# Of every family of networks that is published: its comparisons.
FAMILIES: dict[str, list[Callable[[], Values]]] = {
  **{kind: [functools.partial(transformers, kind)] for kind in FOUNDATIONS},
  'dinov2': [functools.partial(dinov2, name) for name in make_dinov2_golden.TINY],
  'lh_fe': [frequency_vae],
  'nafnet': [functools.partial(restorer, 'nafnet')],
  'restormer': [functools.partial(restorer, 'restormer')],
  'sfhformer': [functools.partial(restorer, name) for name in ('sfhformer', 'sfhformer_narrow')],
}
