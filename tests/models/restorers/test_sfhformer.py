import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.models import restorers
from lh_jax.models.restorers import sfhformer

TINY = {'channels': 4, 'dims': (4, 8, 4), 'blocks': (0, 1, 0)}
FLAT = {'channels': 4, 'dims': (8,), 'blocks': (1,)}


def count(module, channels):
  variables = jax.eval_shape(
    lambda key: module.init(key, jnp.zeros((1, 8, 8, channels)), train=False), jax.random.key(0)
  )
  return sum(x.size for x in jax.tree.leaves(variables['params']))


@functools.cache
def build(kind='tiny', **options):
  return restorers.build('sfhformer', **{'tiny': TINY, 'flat': FLAT}[kind], **options)


@functools.cache
def initial(module):
  z = jnp.zeros((1, 4, 4, module.channels))
  return jax.jit(functools.partial(module.init, train=False))(jax.random.key(0), z)


def randomised(module):
  """Variables in which nothing is zero, so that every part of the network shows."""
  rng = np.random.default_rng(1)
  params = jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32), initial(module)['params'])
  return {**initial(module), 'params': params}


@functools.cache
def evaluate(module):
  return jax.jit(functools.partial(module.apply, train=False))


@functools.cache
def train(module):
  return jax.jit(functools.partial(module.apply, train=True, mutable=['batch_stats']))


def latents(*shape):
  return jax.random.normal(jax.random.key(2), shape)


@pytest.mark.parametrize('channels, parameters', [(24, 21_481), (32, 36_833), (64, 139_201)])
def test_block_parameters(channels, parameters):
  assert count(sfhformer.SFHBlock(), channels) == parameters


@pytest.mark.parametrize(
  'options, parameters',
  [
    ({'channels': 32, 'dims': (32, 64, 32), 'blocks': (1, 4, 1)}, 667_494),
    # The published network on RGB: 7.61M parameters (ECCV 2024).
    ({'channels': 3, 'dims': (32, 64, 128, 64, 32), 'blocks': (6, 6, 10, 6, 6)}, 7_612_069),
  ],
)
def test_network_parameters(options, parameters):
  assert count(restorers.build('sfhformer', **options), options['channels']) == parameters


@pytest.mark.parametrize('size', [(8, 8), (1, 1), (7, 6)])
def test_starts_as_the_identity_at_any_size(size):
  z = latents(2, *size, 4)
  assert set(initial(build())) == {'params', 'batch_stats'}
  out = evaluate(build())(initial(build()), z)
  assert out.dtype == jnp.float32
  np.testing.assert_array_equal(out, z)


def test_odd_sizes_are_padded_with_their_edge():
  z = latents(2, 7, 5, 4)
  variables = randomised(build())
  out = evaluate(build())(variables, z)
  padded = jnp.pad(z, ((0, 0), (0, 1), (0, 1), (0, 0)), mode='edge')
  np.testing.assert_allclose(out, evaluate(build())(variables, padded)[:, :7, :5], atol=1e-6)
  assert float(jnp.abs(out - z).max()) > 1e-3


@pytest.mark.parametrize('norm, groups', [('batch', 1), ('layer', 4), ('none', 1)])
def test_gradients_are_finite_and_reach_every_parameter(norm, groups):
  module = build(norm=norm, groups=groups)
  z = latents(2, 5, 7, 4).at[0].set(0.0)  # a constant image is where norms and phases could divide by zero
  variables = randomised(module)
  stats = {k: v for k, v in variables.items() if k != 'params'}

  @jax.jit
  def gradients(params, z):
    def loss(params, z):
      out, _ = module.apply({'params': params, **stats}, z, train=True, mutable=['batch_stats'])
      return jnp.mean(jnp.square(out))

    return jax.grad(loss, (0, 1))(params, z)

  for path, gradient in jax.tree_util.tree_leaves_with_path(gradients(variables['params'], z)):
    name = jax.tree_util.keystr(path)
    assert np.isfinite(gradient).all(), name
    # The softmax over a single filter is constant.
    if not (groups == 1 and 'gates' in name):
      assert np.abs(gradient).max() > 0, name


def test_jit_is_no_jit():
  module = build('flat', groups=2)
  z = latents(2, 5, 6, 4)
  expected = module.apply(randomised(module), z, train=True, mutable=['batch_stats'])
  for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(train(module)(randomised(module), z))):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_batch_norm_modes():
  module = build('flat')
  z = latents(4, 6, 6, 4)
  variables = randomised(module)
  evaluated = evaluate(module)(variables, z)
  trained, new = train(module)(variables, z)
  assert float(jnp.abs(trained - evaluated).max()) > 1e-3
  statistics = new['batch_stats']['stage0_block0']['norm1']
  embed = variables['params']['conv_in']
  x = jax.lax.conv_general_dilated(z, embed['kernel'], (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  x = np.asarray(x) + np.asarray(embed['bias'])
  # Momentum 0.9 from a mean of 0 and a variance of 1.
  np.testing.assert_allclose(statistics['mean'], 0.1 * x.mean((0, 1, 2)), atol=1e-6)
  np.testing.assert_allclose(statistics['var'], 0.9 + 0.1 * x.var((0, 1, 2)), atol=1e-6)
  # Evaluated alone or in a batch, an image has one result; in training mode it depends on the others.
  np.testing.assert_allclose(evaluate(module)(variables, z[:1]), evaluated[:1], atol=1e-5)


def test_other_norms_have_no_statistics():
  assert set(initial(build('flat', norm='none'))) == {'params'}
  module = build('flat', norm='layer')
  z = latents(2, 4, 4, 4)
  variables = randomised(module)
  assert set(variables) == {'params'}
  out, new = train(module)(variables, z)
  assert not new
  np.testing.assert_allclose(out, evaluate(module)(variables, z), atol=1e-6)


@pytest.mark.parametrize('size', [(6, 8), (5, 7)])
def test_fourier_unit_with_an_identity_filter(size):
  """GELU of the plane's parts, computed by NumPy in float64."""
  c = 3
  module = sfhformer.FourierUnit(groups=1, norm='none', dtype=jnp.float32)
  x = latents(2, *size, c)
  params = jax.tree.map(jnp.zeros_like, module.init(jax.random.key(0), x, train=False)['params'])
  params['filters']['kernel'] = jnp.eye(2 * c)[None, None]
  out = module.apply({'params': params}, x, train=False)
  plane = np.fft.rfft2(np.asarray(x, np.float64), axes=(1, 2), norm='ortho')

  def gelu(v):
    return 0.5 * v * (1 + np.vectorize(math.erf)(v / np.sqrt(2)))

  expected = np.fft.irfft2(gelu(plane.real) + 1j * gelu(plane.imag), s=size, axes=(1, 2), norm='ortho')
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_bfloat16_stays_close_to_float32():
  z = latents(1, 8, 8, 4)
  low, high = (evaluate(build('flat', dtype=t))(randomised(build('flat')), z) for t in (jnp.bfloat16, jnp.float32))
  assert low.dtype == jnp.float32
  assert 0 < float(jnp.abs(low - high).max()) < 0.05 * float(jnp.abs(high - z).max())


def test_a_few_steps_reduce_the_loss():
  module = build('flat')
  z = latents(4, 6, 6, 4)
  target = 0.5 * z + 0.3

  @jax.jit
  def step(variables):
    def loss(params):
      out, new = module.apply({**variables, 'params': params}, z, train=True, mutable=['batch_stats'])
      return jnp.mean(jnp.square(out - target)), new

    (value, new), gradient = jax.value_and_grad(loss, has_aux=True)(variables['params'])
    return value, {'params': jax.tree.map(lambda p, g: p - 0.05 * g, variables['params'], gradient), **new}

  variables, losses = initial(module), []
  for _ in range(15):
    value, variables = step(variables)
    losses.append(float(value))
  assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
  'options, message',
  [
    ({'dims': (8, 16)}, r'dims=\(8, 16\) and blocks=\(0, 1, 0\); both need the same odd length'),
    ({'blocks': (1,)}, 'both need the same odd length'),
    ({'dims': (8, 9, 8)}, 'each must be even'),
    ({'fourier_norm': 'instance'}, "unknown restorer norm 'instance'"),
    ({'groups': 2, 'wide': False}, 'groups=2 with wide=False, which has one group of filters only'),
    ({'groups': 3}, 'groups=3 for dims=.* groups must divide 4 times each dim'),
    ({'norm': 'instance'}, "unknown restorer norm 'instance'; known norms: batch, layer, none"),
    ({'channels': 5}, 'their last axis must be channels=5'),
  ],
)
def test_field_errors(options, message):
  with pytest.raises(ValueError, match=message):
    restorers.build('sfhformer', **{**TINY, **options}).init(jax.random.key(0), jnp.zeros((1, 4, 4, 4)), train=False)
