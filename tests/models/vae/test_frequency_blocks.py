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
  return jnp.tensordot(x, layer['kernel'][0, 0], 1) + layer['bias'].reshape((1,) * (jnp.ndim(x) - 1) + (-1,))


def mixed(x, first, second):
  return conv(nn.leaky_relu(conv(x, first), 0.1), second)


def published_filter(x, params, forward, backward):
  """The amplitude is replaced, the angle kept."""
  plane = forward(x)
  amplitude = mixed(jnp.abs(plane), params['conv1'], params['conv2'])
  return x + backward(amplitude * jnp.exp(1j * jnp.angle(plane)))


def published_plane_filter(x, params):
  size = x.shape[1:3]
  return published_filter(
    x, params, lambda x: jnp.fft.rfft2(x, axes=(1, 2)), lambda x: jnp.fft.irfft2(x, s=size, axes=(1, 2))
  )


def published_channel_filter(x, params):
  return published_filter(x, params, jnp.fft.rfft, lambda y: jnp.fft.irfft(y, n=x.shape[-1]))


def published_fourier_up(x, params):
  b, h, w, c = x.shape
  plane = jnp.fft.fft2(x, axes=(1, 2))
  # The angle of a frequency that is its own opposite is 0 or pi; rounding makes some of them -pi.
  own = (2 * np.arange(h) % h == 0)[:, None] & (2 * np.arange(w) % w == 0)[None]
  angle = jnp.angle(jnp.where(own[None, ..., None], plane.real, plane))
  amplitude = mixed(jnp.abs(plane), params['amplitude1'], params['amplitude2'])
  angle = mixed(angle, params['phase1'], params['phase2'])
  amplitude, angle = (jnp.tile(value, (1, 2, 2, 1)) for value in (amplitude, angle))
  u = jnp.abs(jnp.fft.ifft2(amplitude * jnp.exp(1j * angle), axes=(1, 2)))
  # What lies between the pixels is zero but for rounding, and a length has no derivative there.
  between = np.ones((2 * h, 2 * w), bool)
  between[::2, ::2] = False
  u = jnp.where(between[None, ..., None], jax.lax.stop_gradient(u), u)
  plain = jax.image.resize(x, (b, 2 * h, 2 * w, c), 'linear', antialias=False)
  return conv(plain + conv(u, params['post']), params['fuse'])


PUBLISHED = {
  frequency_blocks.PlaneFilter: published_plane_filter,
  frequency_blocks.ChannelFilter: published_channel_filter,
  frequency_blocks.FourierUp: published_fourier_up,
}
FILTERS = (frequency_blocks.PlaneFilter, frequency_blocks.ChannelFilter)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kind', PUBLISHED)
def test_values_and_gradients_are_those_of_the_published_form(kind, size):
  x = jnp.asarray(image(size))
  module = kind()
  params = make(module, x)
  expected = PUBLISHED[kind](x, params)
  found = module.apply({'params': params}, x)
  assert found.shape == expected.shape
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)

  def gradients(function):
    return jax.grad(lambda params, x: jnp.sum(jnp.sin(function(x, params))), argnums=(0, 1))(params, x)

  ours = gradients(lambda x, params: module.apply({'params': params}, x))
  theirs = gradients(PUBLISHED[kind])
  scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(theirs))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3 * scale), ours, theirs)


@pytest.mark.parametrize('kind', FILTERS)
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


def test_fourier_up_where_rounding_decides():
  """Published, the angle of a negative frequency that is its own opposite is pi or -pi by chance: that much differs."""
  h, w = 6, 10
  x = image((h, w), batch=1)
  module = frequency_blocks.FourierUp()
  params = make(module, x)
  plane = np.fft.fft2(x, axes=(1, 2))
  corners = plane[0, :: h // 2, :: w // 2]
  amplitude, angle = np.abs(corners), np.angle(corners.real.astype(complex))
  m = np.abs(mixed(amplitude, params['amplitude1'], params['amplitude2']))
  turned = mixed(-angle, params['phase1'], params['phase2']) - mixed(angle, params['phase1'], params['phase2'])
  # One frequency is one part in h w of every pixel.
  most = float((m * np.abs(2 * np.sin(turned / 2))).sum(axis=(0, 1)).max()) / (h * w)
  lengths = np.abs(published_fourier_up(jnp.asarray(x), params)).max()
  assert 0.01 < most / lengths < 1.0


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


def test_phase():
  real, imaginary = jnp.asarray([1.0, -1.0, 0.0, 0.0]), jnp.asarray([1.0, 0.0, 2.0, 0.0])
  np.testing.assert_allclose(frequency_blocks.phase(real, imaginary), [np.pi / 4, np.pi, np.pi / 2, 0.0], rtol=1e-6)
  gradients = jax.grad(lambda r, i: frequency_blocks.phase(r, i).sum(), argnums=(0, 1))(real, imaginary)
  np.testing.assert_allclose(gradients, [[-0.5, 0.0, -0.5, 0.0], [0.5, -1.0, 0.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize('kind', MODULES)
def test_bfloat16_activations(kind):
  x = jnp.asarray(image((16, 16))) + 3.0
  module = MODULES[kind]()
  params = make(module, x)
  exact = module.apply({'params': params}, x)
  found = module.clone(dtype=jnp.bfloat16).apply({'params': params}, x.astype(jnp.bfloat16))
  assert found.dtype == jnp.bfloat16
  # Angles of small amplitudes turn with the rounding of the image, so single values differ more.
  error = np.abs(np.asarray(found, np.float32) - exact).mean() / np.abs(exact).mean()
  assert error < 0.03, error


def test_norm_kind_is_the_presets():
  x = jnp.asarray(image((4, 4)))
  for norm, module in (('group', nn.GroupNorm), ('layer', frequency_blocks.layers.LayerNorm2d)):
    block = frequency_blocks.FEBlock(8, norm)
    seen = []
    with nn.intercept_methods(lambda f, a, k, c: (seen.append(type(c.module)), f(*a, **k))[1]):
      jax.eval_shape(block.init, jax.random.key(0), x)
    assert seen.count(module) >= 2
