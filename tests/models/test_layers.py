import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.models import layers


def normal(seed, shape, dtype=jnp.float32):
  return jax.random.normal(jax.random.key(seed), shape, jnp.float32).astype(dtype)


@pytest.mark.parametrize('kind', layers.NORMS)
def test_norm_parameters_and_epsilon(kind):
  module = layers.make_norm(kind)
  x = normal(0, (2, 3, 5, 8))
  params = module.init(jax.random.key(1), x)['params']
  assert {k: v.shape for k, v in params.items()} == {'scale': (8,), 'bias': (8,)}
  y = module.apply({'params': {'scale': jnp.full((8,), 2.0), 'bias': jnp.full((8,), 3.0)}}, x)
  wide = np.asarray(x, np.float64)
  if kind == 'layer':
    mean, variance = wide.mean(-1, keepdims=True), wide.var(-1, keepdims=True)
  else:
    groups = wide.reshape(2, 15, 4, 2)
    mean, variance = (np.repeat(f((1, 3)), 2, -1)[:, None, None] for f in (groups.mean, groups.var))
  np.testing.assert_allclose(y, 2 * (wide - mean) / np.sqrt(variance + 1e-6) + 3, atol=1e-5)


def test_layer_norm_is_local_and_survives_a_large_mean():
  module = layers.make_norm('layer')
  x = normal(0, (1, 6, 7, 16))
  params = module.init(jax.random.key(1), x)
  np.testing.assert_array_equal(module.apply(params, x)[:, 2:5, 1:4], module.apply(params, x[:, 2:5, 1:4]))
  np.testing.assert_allclose(module.apply(params, x + 1000), module.apply(params, x), atol=2e-3)


@pytest.mark.parametrize('kind', layers.NORMS)
def test_norm_keeps_the_dtype_and_has_finite_gradients_on_constants(kind):
  module = layers.make_norm(kind, dtype=jnp.bfloat16)
  x = jnp.ones((1, 4, 4, 8), jnp.bfloat16)
  params = module.init(jax.random.key(1), x)
  assert module.apply(params, x).dtype == jnp.bfloat16
  gradient = jax.grad(lambda x: jnp.sum(jnp.square(module.apply(params, x).astype(jnp.float32))))(x)
  assert np.isfinite(np.asarray(gradient, np.float32)).all()


def test_unknown_norm():
  with pytest.raises(ValueError, match="unknown norm 'batchnorm'; known norms: layer, group"):
    layers.make_norm('batchnorm')


def test_space_to_depth_order():
  x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
  y = layers.space_to_depth(x, 2)
  assert y.shape == (2, 2, 3, 12)
  for row in range(2):
    for column in range(2):
      first = (row * 2 + column) * 3
      np.testing.assert_array_equal(y[..., first : first + 3], x[:, row::2, column::2])


@pytest.mark.parametrize('block', [1, 2, 4])
def test_depth_to_space_inverts_space_to_depth(block):
  x = normal(0, (2, 8, 12, 3))
  np.testing.assert_array_equal(layers.depth_to_space(layers.space_to_depth(x, block), block), x)


def test_space_to_depth_rejects_odd_sizes():
  with pytest.raises(ValueError, match='got 5x4 pixels; height and width must be multiples of block=2'):
    layers.space_to_depth(jnp.zeros((1, 5, 4, 1)), 2)
  with pytest.raises(ValueError, match='got 6 channels; they must be a multiple of block\\^2=4'):
    layers.depth_to_space(jnp.zeros((1, 2, 2, 6)), 2)


CASES = [(3, 3, 1), (3, 3, 2), (5, 5, 1), (7, 7, 1), (2, 4, 1), (1, 6, 3)]


@pytest.mark.parametrize('kh, kw, dilation', CASES)
@pytest.mark.parametrize('size', [(9, 8), (1, 3)])
def test_depthwise_forms_agree_forward_and_backward(kh, kw, dilation, size):
  x, kernel, weight = normal(0, (2, *size, 5)), normal(1, (kh, kw, 1, 5)), normal(2, (2, *size, 5))

  def run(method):
    def loss(x, kernel):
      return jnp.sum(weight * jnp.sin(layers.depthwise_conv(x, kernel, dilation=dilation, method=method)))

    return layers.depthwise_conv(x, kernel, dilation=dilation, method=method), *jax.grad(loss, (0, 1))(x, kernel)

  for a, b, c in zip(run('conv'), run('shift'), run('auto')):
    np.testing.assert_allclose(a, b, atol=3e-5)
    np.testing.assert_array_equal(b, c)


def test_depthwise_by_hand():
  x = jnp.arange(1.0, 7).reshape(1, 2, 3, 1)
  kernel = jnp.zeros((3, 3, 1, 1)).at[1, 0, 0, 0].set(10).at[2, 1, 0, 0].set(1)
  # Ten times the left neighbour plus the lower one; zero outside.
  expected = np.array([[4, 10 + 5, 20 + 6], [0, 40, 50]]).reshape(1, 2, 3, 1)
  np.testing.assert_array_equal(layers.depthwise_conv(x, kernel), expected)


@pytest.mark.parametrize('method', ['shift', 'conv'])
def test_depthwise_keeps_bfloat16_and_sums_in_float32(method):
  x, kernel = normal(0, (1, 12, 12, 4), jnp.bfloat16), normal(1, (7, 7, 1, 4))
  y = layers.depthwise_conv(x, kernel, method=method)
  assert y.dtype == jnp.bfloat16
  rounded = kernel.astype(jnp.bfloat16).astype(jnp.float32)
  exact = np.asarray(layers.depthwise_conv(x.astype(jnp.float32), rounded, method='shift'))
  np.testing.assert_allclose(np.asarray(y, np.float32), exact, rtol=2**-7, atol=0.05)
  gradient = jax.grad(lambda k: jnp.sum(layers.depthwise_conv(x, k, method=method).astype(jnp.float32)))(kernel)
  assert gradient.dtype == jnp.float32


def test_depthwise_auto_follows_the_platform_of_lowering():
  x, kernel = jnp.zeros((1, 8, 8, 4)), jnp.zeros((3, 3, 1, 4))
  traced = jax.jit(layers.depthwise_conv).trace(x, kernel)
  assert 'convolution' not in traced.lower(lowering_platforms=('cpu',)).as_text()
  assert 'convolution' in traced.lower(lowering_platforms=('tpu',)).as_text()


def test_depthwise_errors():
  x = jnp.zeros((1, 4, 4, 6))
  with pytest.raises(ValueError, match=r'kernel of shape \(3, 3, 6, 1\) for 6 channels; it must be \(kh, kw, 1, 6\)'):
    layers.depthwise_conv(x, jnp.zeros((3, 3, 6, 1)))
  with pytest.raises(ValueError, match="unknown depthwise method 'fft'; known methods: auto, conv, shift"):
    layers.depthwise_conv(x, jnp.zeros((3, 3, 1, 6)), method='fft')


def test_depthwise_module():
  module = layers.DepthwiseConv(3, dilation=2)
  x = normal(0, (1, 5, 6, 4))
  params = module.init(jax.random.key(1), x)['params']
  assert {k: v.shape for k, v in params.items()} == {'kernel': (3, 3, 1, 4), 'bias': (4,)}
  params['bias'] = jnp.arange(4.0)
  expected = lax.conv_general_dilated(
    x,
    params['kernel'],
    (1, 1),
    'SAME',
    rhs_dilation=(2, 2),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=4,
  )
  np.testing.assert_allclose(module.apply({'params': params}, x), np.asarray(expected) + np.arange(4.0), atol=1e-6)


@pytest.mark.parametrize('axis', (-1, 0))
def test_batch_norm_is_that_of_flax(axis):
  """Values, running statistics and derivatives; flax takes the mean first and the variance after."""
  x = 2 * normal(0, (4, 3, 5, 4)) + 10 * normal(1, (4,)).reshape([-1 if i == axis % 4 else 1 for i in range(4)])
  weights = normal(2, x.shape)
  parameters = {'scale': normal(3, (4,)), 'bias': normal(4, (4,))}
  statistics = {'mean': normal(5, (4,)), 'var': 1 + jnp.square(normal(6, (4,)))}

  def run(module, parameters, x):
    variables = {'params': parameters, 'batch_stats': statistics}
    y, new = module.apply(variables, x, mutable=['batch_stats'])
    return jnp.vdot(weights, jnp.square(y)), (y, new)

  for train in (True, False):
    ours = layers.BatchNorm(train, axis=axis)
    flax = nn.BatchNorm(use_running_average=not train, axis=axis, momentum=0.9, epsilon=1e-5, use_fast_variance=False)
    found, expected = (
      jax.jit(jax.value_and_grad(lambda *a: run(module, *a), (0, 1), has_aux=True))(parameters, x)
      for module in (ours, flax)
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_batch_norm_survives_a_large_mean_that_the_running_one_knows():
  x = normal(0, (4, 8, 8, 3))
  module = layers.BatchNorm(train=True)
  variables = module.init(jax.random.key(1), x)
  far = {**variables, 'batch_stats': {'mean': jnp.full((3,), 1000.0), 'var': jnp.ones((3,))}}
  expected, _ = module.apply(variables, x, mutable=['batch_stats'])
  y, _ = module.apply(far, x + 1000, mutable=['batch_stats'])
  np.testing.assert_allclose(y, expected, atol=2e-3)
