"""`ops.fourier` equals `jnp.fft`, derivatives included, and sends nothing between devices."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import parallel
from lh_jax.ops import fourier


@pytest.mark.parametrize('size', [(8, 8), (6, 7), (5, 8), (9, 1)])
def test_equals_numpy(size):
  x = np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)
  plane = fourier.rfft2(x)
  np.testing.assert_allclose(plane, np.fft.rfft2(x), atol=1e-4)
  np.testing.assert_allclose(fourier.irfft2(plane, size), x, atol=1e-5)


@pytest.mark.parametrize('channels', [1, 2, 5, 8, 64])
def test_channels_equal_numpy(channels):
  x = np.random.default_rng(0).standard_normal((2, 3, channels)).astype(np.float32)
  real, imaginary = fourier.rfft_channels(x)
  expected = np.fft.rfft(x)
  np.testing.assert_allclose(real, expected.real, atol=2e-5)
  np.testing.assert_allclose(imaginary, expected.imag, atol=2e-5)
  # As numpy does, also of a spectrum that no real signal has.
  np.testing.assert_allclose(
    fourier.irfft_channels(real + 1, imaginary + 1, channels), np.fft.irfft(expected + 1 + 1j, n=channels), atol=1e-5
  )


@pytest.mark.parametrize('size', [(8, 8), (6, 7), (5, 8), (9, 1)])
def test_derivatives_equal_those_of_jax(size):
  rng = np.random.default_rng(1)
  x, target = (rng.standard_normal((2, *size)).astype(np.float32) for _ in range(2))
  mask = (rng.standard_normal((2, size[0], size[1] // 2 + 1)) * (1 + 2j)).astype(np.complex64)

  def loss(x, forward, backward):
    return jnp.sum(target * jnp.square(backward(forward(x) * mask, size)))

  ours = jax.jit(jax.grad(lambda x: loss(x, fourier.rfft2, fourier.irfft2)))(x)
  theirs = jax.grad(lambda x: loss(x, jnp.fft.rfft2, lambda y, s: jnp.fft.irfft2(y, s=s)))(x)
  np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def test_sends_nothing():
  mesh = parallel.make_mesh()
  x = jax.ShapeDtypeStruct((16, 3, 8, 8), jnp.float32, sharding=parallel.batch_sharding(mesh))
  grad = jax.grad(lambda x: jnp.sum(jnp.square(fourier.irfft2(2.0 * fourier.rfft2(x), (8, 8)))))
  text = jax.jit(grad).lower(x).compile().as_text()
  assert not re.findall('all-gather|all-to-all|collective-permute', text)


def test_can_be_exported():
  """One device's program holds no trace of the splitting."""
  shape = jax.ShapeDtypeStruct((1, 3, 8, 8), jnp.float32)
  assert jax.export.export(jax.jit(fourier.rfft2), platforms=('cpu', 'cuda', 'tpu'))(shape).serialize()
