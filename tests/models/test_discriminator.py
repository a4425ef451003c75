import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.models.discriminator import SpectralConv, UNetDiscriminator

SMALL = UNetDiscriminator(features=4)


def images(*shape, seed=1):
  return jax.random.normal(jax.random.key(seed), shape)


@functools.cache
def variables():
  init = jax.jit(functools.partial(SMALL.init, update_stats=False))
  return init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


@functools.cache
def apply(update_stats):
  return jax.jit(functools.partial(SMALL.apply, update_stats=update_stats, mutable=['batch_stats']))


def test_parameters():
  shapes = jax.eval_shape(
    lambda key: UNetDiscriminator().init(key, jnp.zeros((1, 8, 8, 3)), update_stats=False), jax.random.key(0)
  )
  assert sum(x.size for x in jax.tree.leaves(shapes['params'])) == 4_376_897


@pytest.mark.parametrize('size', [(8, 8), (16, 24)])
def test_one_finite_logit_per_pixel(size):
  logits, _ = apply(update_stats=False)(variables(), images(2, *size, 3))
  assert logits.shape == (2, *size, 1) and logits.dtype == jnp.float32
  assert np.isfinite(logits).all()


def test_spectral_norm_is_one_after_the_iterations():
  module = SpectralConv(6)
  x = images(1, 8, 8, 5)
  state = module.init(jax.random.key(0), x, update_stats=False)
  state['params']['kernel'] = 3 * state['params']['kernel']
  step = jax.jit(functools.partial(module.apply, update_stats=True, mutable=['batch_stats']))
  for _ in range(30):
    y, new = step(state, x)
    state = {**state, **new}
  kernel = np.asarray(state['params']['kernel'], np.float64)
  sigma = np.linalg.svd(kernel.reshape(-1, 6), compute_uv=False)[0]
  plain = jax.lax.conv_general_dilated(
    x, jnp.asarray(kernel / sigma, jnp.float32), (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  np.testing.assert_allclose(y, plain, atol=1e-4)


def test_initial_estimate_is_close():
  module = SpectralConv(8, 4, 2)
  x = images(1, 8, 8, 6)
  state = module.init(jax.random.key(3), x, update_stats=True)
  matrix = np.asarray(state['params']['kernel'], np.float64).reshape(-1, 8)
  estimate = np.linalg.norm(matrix @ np.asarray(state['batch_stats']['u'], np.float64))
  assert estimate > 0.95 * np.linalg.svd(matrix, compute_uv=False)[0]


def test_statistics_move_only_when_asked():
  x = images(1, 8, 8, 3)
  _, same = apply(update_stats=False)(variables(), x)
  _, moved = apply(update_stats=True)(variables(), x)
  before = variables()['batch_stats']
  for name in before:
    np.testing.assert_array_equal(same['batch_stats'][name]['u'], before[name]['u'])
    assert np.abs(moved['batch_stats'][name]['u'] - before[name]['u']).max() > 0
    np.testing.assert_allclose(np.linalg.norm(moved['batch_stats'][name]['u']), 1, atol=1e-5)


def test_gradients_are_finite_for_parameters_and_images():
  stats = variables()['batch_stats']

  @jax.jit
  def gradients(params, x):
    def loss(params, x):
      return jnp.mean(jax.nn.softplus(SMALL.apply({'params': params, 'batch_stats': stats}, x, update_stats=False)))

    return jax.grad(loss, (0, 1))(params, x)

  for x in (images(1, 16, 8, 3), jnp.zeros((1, 16, 8, 3))):
    for gradient in jax.tree.leaves(gradients(variables()['params'], x)):
      assert np.isfinite(gradient).all()


def test_jit_is_no_jit():
  x = images(1, 8, 8, 3)
  expected = SMALL.apply(variables(), x, update_stats=True, mutable=['batch_stats'])
  for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(apply(update_stats=True)(variables(), x))):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_sizes_that_are_no_multiple_of_eight():
  with pytest.raises(ValueError, match='images of 12x8 pixels; height and width must be multiples of 8'):
    SMALL.apply(variables(), jnp.zeros((1, 12, 8, 3)), update_stats=False)
