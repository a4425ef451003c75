"""What all restorers share: they start as the identity at any size, pad as told, learn, and name their mistakes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.models import restorers
from lh_jax.models.restorers import borders, restormer

TINY = {
  'sfhformer': {'dims': (4, 8, 4), 'blocks': (0, 1, 0)},
  'nafnet': {'width': 4, 'blocks': (1, 1, 1)},
  'restormer': {'width': 4, 'blocks': (1, 1), 'heads': (1, 2)},
}


def build(name, **options):
  return restorers.build(name, **{'channels': 4, **TINY[name], **options})


@functools.cache
def initial(name):
  return jax.jit(functools.partial(build(name).init, train=False))(jax.random.key(0), jnp.zeros((1, 4, 4, 4)))


def randomised(name):
  """Variables in which nothing is zero, so that every part of the network shows."""
  rng = np.random.default_rng(1)
  params = jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32), initial(name)['params'])
  return {**initial(name), 'params': params}


def latents(*shape):
  return jax.random.normal(jax.random.key(2), shape)


@pytest.mark.parametrize('size', [(1, 1), (7, 6)])
@pytest.mark.parametrize('name', ['nafnet', 'restormer'])
def test_starts_as_the_identity_at_any_size(name, size):
  z = latents(2, *size, 4)
  assert set(initial(name)) == {'params'}
  out = jax.jit(functools.partial(build(name).apply, train=True))(initial(name), z)
  assert out.dtype == jnp.float32
  np.testing.assert_array_equal(out, z)


@pytest.mark.parametrize('padding, mode', [('edge', 'edge'), ('zero', 'constant'), ('reflect', 'reflect')])
@pytest.mark.parametrize('name', TINY)
def test_odd_sizes_are_padded(name, padding, mode):
  z = latents(1, 5, 7, 4)
  apply = jax.jit(functools.partial(build(name, padding=padding).apply, train=False))
  variables = randomised(name)
  padded = jnp.pad(z, ((0, 0), (0, 1), (0, 1), (0, 0)), mode=mode)
  np.testing.assert_allclose(apply(variables, z), apply(variables, padded)[:, :5, :7], atol=1e-5)
  assert float(jnp.abs(apply(variables, z) - z).max()) > 1e-3


@pytest.mark.parametrize('name', ['nafnet', 'restormer'])
def test_gradients_are_finite_and_reach_every_parameter(name):
  module = build(name)
  z = latents(2, 5, 7, 4).at[0].set(0.0)  # a constant image is where norms could divide by zero

  @jax.jit
  def gradients(params, z):
    return jax.grad(lambda p, z: jnp.mean(jnp.square(module.apply({'params': p}, z, train=True))), (0, 1))(params, z)

  for path, gradient in jax.tree_util.tree_leaves_with_path(gradients(randomised(name)['params'], z)):
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, jax.tree_util.keystr(path)


@pytest.mark.parametrize('name', ['nafnet', 'restormer'])
def test_bfloat16_stays_close_to_float32(name):
  z = latents(1, 8, 8, 4)
  low, high = (
    jax.jit(functools.partial(build(name, dtype=t).apply, train=False))(randomised(name), z)
    for t in (jnp.bfloat16, jnp.float32)
  )
  assert low.dtype == jnp.float32
  assert 0 < float(jnp.abs(low - high).max()) < 0.05 * float(jnp.abs(high - z).max())


def test_nafnet_with_gains_starts_as_the_identity_and_multiplies():
  module, z = build('nafnet', gains=True), latents(2, 5, 7, 4)
  params = jax.jit(functools.partial(module.init, train=False))(jax.random.key(0), z)['params']
  apply = jax.jit(functools.partial(module.apply, train=False))
  np.testing.assert_array_equal(apply({'params': params}, z), z)
  bias = jnp.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.5, 0.0])  # gains, then terms
  out = apply({'params': params | {'conv_out': params['conv_out'] | {'bias': bias}}}, z)
  np.testing.assert_allclose(out, 2 * z + bias[4:].reshape(1, 1, 1, 4), rtol=1e-6)


def test_pixel_unshuffle_has_the_order_of_pytorch():
  x = jnp.arange(2 * 2 * 3).reshape(1, 2, 2, 3)  # pixel (row, column) of channel c is 3 (2 row + column) + c
  np.testing.assert_array_equal(restormer.pixel_unshuffle(x)[0, 0, 0], [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11])


def test_build_takes_lists_and_leaves_out_what_is_none():
  module = restorers.build('sfhformer', dims=[8, 12, 8], blocks=[1, 1, 1], width=None)
  assert module.dims == (8, 12, 8) and hash(module) is not None


@pytest.mark.parametrize(
  'name, options, message',
  [
    ('nafnet', {'blocks': (1, 1)}, r'NAFNet got blocks=\(1, 1\); an odd number of stages is needed'),
    ('nafnet', {'channels': 5}, 'NAFNet got latents of shape .* their last axis must be channels=5'),
    ('nafnet', {'padding': 'wrap'}, "unknown padding of a restorer, 'wrap'; known paddings: edge, reflect, zero"),
    ('restormer', {'blocks': (1,)}, r'Restormer got blocks=\(1,\) and heads=\(1, 2\); both need one entry per level'),
    ('restormer', {'heads': (1, 3)}, r'Restormer got width=4 for heads=\(1, 3\); the width must be even'),
    ('restormer', {'channels': 5}, 'Restormer got latents of shape'),
    ('restormer', {'norm': 'batch'}, 'norm of a transformer block'),
  ],
)
def test_field_errors(name, options, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda key: build(name, **options).init(key, jnp.zeros((1, 5, 4, 4)), train=False), jax.random.key(0)
    )


def test_unknown_restorer_or_option():
  with pytest.raises(ValueError, match="unknown restorer 'swinir'; known restorers: nafnet, restormer, sfhformer"):
    restorers.build('swinir')
  with pytest.raises(TypeError, match="restorer 'nafnet' has no option dims, groups; its options are channels, width"):
    restorers.build('nafnet', dims=(8, 8, 8), groups=1)


def test_paddings():
  x = latents(1, 3, 4, 2)
  for padding in borders.PADDINGS:
    assert borders.pad_to_multiple(x, 4, padding).shape == (1, 4, 4, 2)
    assert borders.pad_to_multiple(x[:, :1], 1, padding) is not None
