"""Restorers against spandrel's NAFNet and Restormer and the authors' SFHformer, live, on random weights, block by block.

Weights go through the converter's tables of names, as published ones do. Needs torch, einops, spandrel and
spandrel_extra_arches; for SFHformer the environment variable LH_JAX_SFHFORMER names a checkout of
https://github.com/deng-ai-lab/SFHformer. The basic suite compares with the committed golden values.
"""

from __future__ import annotations

import functools
import importlib.util
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.convert import restorers as converter
from lh_jax.models import restorers

from tests.parity import make_restorers_golden as recipe

torch = pytest.importorskip('torch', reason='needs torch, the implementation to compare with')
for package in ('einops', 'spandrel', 'spandrel_extra_arches'):
  if importlib.util.find_spec(package) is None:
    pytest.skip(f'needs {package}, the implementation to compare with', allow_module_level=True)

pytestmark = pytest.mark.parity

TOLERANCE = 1e-4  # Largest error over largest value, float32.
CHECKOUT = os.environ.get(recipe.CHECKOUT)
WIDER = {'name': 'restormer', 'width': 16, 'blocks': (1, 2, 1, 2), 'heads': (1, 2, 4, 8), 'padding': 'reflect'}
CASES = [
  recipe.NETWORKS['nafnet'],
  {'name': 'nafnet', 'width': 16, 'blocks': (1, 1, 1, 3, 1, 1, 1, 1, 1), 'padding': 'zero'},
  recipe.NETWORKS['restormer'],
  WIDER | {'refinement': 2},
  WIDER | {'refinement': 1, 'norm': 'bias_free'},
  WIDER | {'refinement': 1, 'use_bias': True},
  recipe.NETWORKS['sfhformer'],
  recipe.NETWORKS['sfhformer'] | {'dims': (16, 32, 64, 32, 16), 'groups': 4},
  recipe.NETWORKS['sfhformer_narrow'],
  recipe.NETWORKS['sfhformer_narrow'] | {'dims': (16, 32, 64, 32, 16), 'fourier_norm': 'none'},
]


def relative_error(found, expected):
  return np.abs(np.asarray(found, np.float32) - expected).max() / np.abs(expected).max()


@functools.cache
def pair(case):
  options = CASES[case]
  if options['name'] == 'sfhformer' and not CHECKOUT:
    pytest.skip(f"needs a checkout of the authors' SFHformer, named by the environment variable {recipe.CHECKOUT}")
  net, shapes = recipe.model(options, checkout=CHECKOUT)
  module = restorers.build(**options, channels=3)
  return net, module, converter.convert(recipe.weights(shapes), module)


@pytest.mark.parametrize('size', [(32, 48), (33, 41), (24, 21)])
@pytest.mark.parametrize('case', range(len(CASES)))
def test_every_block_and_the_output(case, size):
  net, module, variables = pair(case)
  images = recipe.image(size)
  expected = recipe.run(net, images, multiple=module.multiple)
  apply = jax.jit(functools.partial(module.apply, train=False, capture_intermediates=True))
  output, state = apply(variables, images)
  # Of what the network adds to its input, beside which errors would be small.
  errors = {'output': relative_error(output - images, expected.pop('output') - images)}
  for name, value in expected.items():
    errors[name] = relative_error(state['intermediates'][name]['__call__'][0], value)
  print(CASES[case]['name'], size, f'{len(errors)} values, largest error {max(errors.values()):.1e}')
  assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize('case', [0, 2, 6])
def test_bfloat16(case):
  net, module, variables = pair(case)
  images = recipe.image((32, 41))
  output = jax.jit(functools.partial(module.clone(dtype=jnp.bfloat16).apply, train=False))(variables, images)
  error = relative_error(output, recipe.run(net, images, multiple=module.multiple)['output'])
  print(CASES[case]['name'], f'bfloat16 error {error:.1e}')
  assert output.dtype == jnp.float32 and error < 0.1


def test_golden_values_are_up_to_date():
  if not CHECKOUT:
    pytest.skip(f"needs a checkout of the authors' SFHformer, named by the environment variable {recipe.CHECKOUT}")
  with np.load(recipe.FIXTURE) as file:
    stored = dict(file)
  fresh = recipe.golden(CHECKOUT)
  assert stored.keys() == fresh.keys()
  for name, value in fresh.items():
    if name.endswith('/shapes'):
      assert stored[name] == value
    else:
      np.testing.assert_allclose(stored[name], value, atol=1e-5, err_msg=name)
