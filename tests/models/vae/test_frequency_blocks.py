"""lh_jax.models.vae.frequency_blocks: the fast forms are the published ones, and where they differ, by how much."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.models.vae import frequency_blocks

SIZES = [(4, 6), (5, 7), (6, 5), (1, 1), (10, 18)]


def make(module, x):
  """Parameters in which every bias does something."""
  params = module.init(jax.random.key(0), x)['params']
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(0)
  return jax.tree.unflatten(tree, [leaf + 0.1 * rng.standard_normal(leaf.shape, np.float32) for leaf in leaves])


def image(size, channels=8, batch=2):
  return np.random.default_rng(1).normal(size=(batch, *size, channels)).astype(np.float32)


def conv(x, layer):
  kernel, bias = np.asarray(layer['kernel'])[0, 0], np.asarray(layer['bias'])
  return np.tensordot(x, kernel, 1) + bias


def mixed(x, first, second):
  x = conv(x, first)
  return conv(np.where(x > 0, x, 0.1 * x), second)


def published_filter(x, params, forward, backward):
  """The amplitude is replaced, the angle kept."""
  plane = forward(x)
  amplitude = mixed(np.abs(plane), params['conv1'], params['conv2'])
  return x + backward(amplitude * np.exp(1j * np.angle(plane)))


def published_plane_filter(x, params):
  size = x.shape[1:3]
  return published_filter(
    x, params, lambda x: np.fft.rfft2(x, axes=(1, 2)), lambda x: np.fft.irfft2(x, s=size, axes=(1, 2))
  )


def published_channel_filter(x, params):
  c = x.shape[-1]
  return published_filter(x, params, np.fft.rfft, lambda x: np.fft.irfft(x, n=c))


PUBLISHED = {
  frequency_blocks.PlaneFilter: published_plane_filter,
  frequency_blocks.ChannelFilter: published_channel_filter,
}


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kind', PUBLISHED)
def test_filters_are_the_published_ones(kind, size):
  x = image(size)
  module = kind()
  params = make(module, x)
  expected = PUBLISHED[kind](x.astype(np.float64), params)
  np.testing.assert_allclose(module.apply({'params': params}, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', PUBLISHED)
def test_filters_leave_what_is_zero(kind):
  """The published form makes something of nothing, A(0) at the angle 0; that is all that differs."""
  x = np.zeros((1, 4, 6, 8), np.float32)
  module = kind()
  params = make(module, x)
  np.testing.assert_array_equal(module.apply({'params': params}, x), x)
  bins = 5 if kind is frequency_blocks.ChannelFilter else 8
  of_nothing = mixed(np.zeros(bins), params['conv1'], params['conv2'])
  difference = np.abs(PUBLISHED[kind](x, params)).max()
  assert 0.01 < difference <= np.abs(of_nothing).max() * (1 + 1e-6)


def published_fourier_up(x, params):
  plane = np.fft.fft2(x, axes=(1, 2))
  # An angle of a frequency that is its own opposite is 0 or pi; rounding makes some of them -pi.
  angle = np.where(np.abs(plane.imag) < 1e-9, np.where(plane.real < 0, np.pi, 0), np.angle(plane))
  amplitude = mixed(np.abs(plane), params['amplitude1'], params['amplitude2'])
  angle = mixed(angle, params['phase1'], params['phase2'])
  amplitude, angle = (np.tile(value, (1, 2, 2, 1)) for value in (amplitude, angle))
  u = np.abs(np.fft.ifft2(amplitude * np.exp(1j * angle), axes=(1, 2)))
  b, h, w, c = x.shape
  plain = jax.image.resize(jnp.asarray(x, jnp.float32), (b, 2 * h, 2 * w, c), 'linear', antialias=False)
  return conv(np.asarray(plain, np.float64) + conv(u, params['post']), params['fuse'])


@pytest.mark.parametrize('size', SIZES)
def test_fourier_up_is_the_published_one(size):
  x = image(size)
  module = frequency_blocks.FourierUp()
  params = make(module, x)
  expected = published_fourier_up(x.astype(np.float64), params)
  found = np.asarray(module.apply({'params': params}, x))
  assert found.shape == expected.shape == (2, 2 * size[0], 2 * size[1], 8)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_fourier_up_of_an_angle_of_minus_pi():
  """What chance decides in the published form: pi or -pi at one frequency. Its share of the result is of that size."""
  x = image((6, 10), batch=1)
  module = frequency_blocks.FourierUp()
  params = make(module, x)
  ours = np.asarray(module.apply({'params': params}, x))
  flipped = published_fourier_up(x.astype(np.float64), params)
  plane = np.fft.fft2(x, axes=(1, 2))
  amplitude = mixed(np.abs(plane), params['amplitude1'], params['amplitude2'])
  bound = np.abs(amplitude[:, 0, 0]).max() * 2 / (6 * 10)
  assert np.abs(ours - flipped).max() < 1e-3 * bound
  assert bound < np.abs(ours).max()


MODULES = {
  'channel_filter': frequency_blocks.ChannelFilter,
  'plane_filter': frequency_blocks.PlaneFilter,
  'fe_block': lambda: frequency_blocks.FEBlock(16),
  'fourier_up': frequency_blocks.FourierUp,
}


@pytest.mark.parametrize('value', [0.0, 0.5, -0.5, 1e-7])
@pytest.mark.parametrize('kind', MODULES)
def test_gradients_of_flat_images_are_finite(kind, value):
  """Their amplitudes are zero at all frequencies but one, where angles and lengths have no derivative."""
  x = jnp.full((1, 6, 8, 8), value)
  module = MODULES[kind]()
  params = make(module, x)
  gradients = jax.grad(lambda p, x: jnp.sum(jnp.sin(module.apply({'params': p}, x))), argnums=(0, 1))(params, x)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
  # A filter's slope where the amplitude is zero is at most A(0) / 1e-6; the norms of a block have 1e3 each.
  bound = 1e14 if kind == 'fe_block' else 1e7
  assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradients)) < bound


@pytest.mark.parametrize('kind', MODULES)
def test_gradients_are_those_of_differences(kind):
  x = jnp.asarray(image((5, 6)))
  module = MODULES[kind]()
  params = make(module, x)
  direction = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=jnp.float32)).reshape(leaf.shape), params)

  def loss(step):
    moved = jax.tree.map(lambda leaf, change: leaf + step * change, params, direction)
    return jnp.mean(jnp.square(module.apply({'params': moved}, x + step * jnp.cos(x))))

  step = 1e-3
  expected = (loss(step) - loss(-step)) / (2 * step)
  gradient = jax.grad(loss)(0.0)
  np.testing.assert_allclose(gradient, expected, rtol=2e-2, atol=1e-3)


def test_phase():
  real, imaginary = jnp.asarray([1.0, -1.0, 0.0, 0.0]), jnp.asarray([1.0, 0.0, 2.0, 0.0])
  np.testing.assert_allclose(frequency_blocks.phase(real, imaginary), [np.pi / 4, np.pi, np.pi / 2, 0.0], rtol=1e-6)
  gradients = jax.grad(lambda r, i: frequency_blocks.phase(r, i).sum(), argnums=(0, 1))(real, imaginary)
  np.testing.assert_allclose(gradients, [[-0.5, 0.0, -0.5, 0.0], [0.5, -1.0, 0.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize('kind', MODULES)
def test_bfloat16_activations(kind):
  """Close to float32, and amplitudes are not rounded: the mean of an image, a large one, stays."""
  x = jnp.asarray(image((16, 16))) + 3.0
  module = MODULES[kind]()
  params = make(module, x)
  exact = module.apply({'params': params}, x)
  found = module.clone(dtype=jnp.bfloat16).apply({'params': params}, x.astype(jnp.bfloat16))
  assert found.dtype == jnp.bfloat16
  error = np.abs(np.asarray(found, np.float32) - exact).max() / np.abs(exact).max()
  assert error < 0.03, error


def test_norm_kind_is_the_presets():
  x = jnp.asarray(image((4, 4)))
  for norm, module in (('group', nn.GroupNorm), ('layer', frequency_blocks.layers.LayerNorm2d)):
    block = frequency_blocks.FEBlock(8, norm)
    seen = []
    with nn.intercept_methods(lambda f, a, k, c: (seen.append(type(c.module)), f(*a, **k))[1]):
      jax.eval_shape(block.init, jax.random.key(0), x)
    assert seen.count(module) >= 2
