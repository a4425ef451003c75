"""lh_jax.ops.frequency: the high-frequency operator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.ops import frequency


def sinusoid(cycles, size=32):
  x = np.cos(2 * np.pi * cycles * np.arange(size) / size)
  return jnp.asarray(np.broadcast_to(x[None, None, :, None], (1, size, size, 3)), jnp.float32)


def test_keeps_high_and_removes_low_frequencies():
  """Cut-off 0.25 of Nyquist is 4 cycles over 32 pixels."""
  np.testing.assert_allclose(frequency.high_pass(sinusoid(5), cutoff=0.25), sinusoid(5), atol=1e-5)
  np.testing.assert_allclose(frequency.high_pass(sinusoid(4), cutoff=0.25), 0.0, atol=1e-5)
  np.testing.assert_allclose(frequency.high_pass(sinusoid(0), cutoff=0.25), 0.0, atol=1e-5)


@pytest.mark.parametrize('shape', [(2, 32, 32, 3), (1, 17, 23, 3), (1, 1, 8, 3)])
def test_linear_idempotent_and_complementary(shape):
  a, b = (jax.random.normal(jax.random.key(seed), shape) for seed in (0, 1))
  high = lambda x: frequency.high_pass(x, cutoff=0.3)
  np.testing.assert_allclose(high(a) - high(b), high(a - b), atol=1e-5)
  np.testing.assert_allclose(high(high(a)), high(a), atol=1e-5)
  low = a - high(a)
  np.testing.assert_allclose(high(low), 0.0, atol=1e-5)
  np.testing.assert_allclose(high(a).mean(axis=(1, 2)), 0.0, atol=1e-6)


def test_equals_the_centred_mask_of_the_full_fft():
  """The form of the authors' release: fftshift, radial mask, inverse, real part."""
  image = np.asarray(jax.random.uniform(jax.random.key(0), (1, 24, 20, 1)))
  fy, fx = (np.fft.fftshift(np.fft.fftfreq(n)) / 0.5 for n in (24, 20))
  mask = np.sqrt(fy[:, None] ** 2 + fx[None, :] ** 2) > 0.25
  spectrum = np.fft.fftshift(np.fft.fft2(image[0, :, :, 0]))
  expected = np.fft.ifft2(np.fft.ifftshift(spectrum * mask)).real
  np.testing.assert_allclose(frequency.high_pass(image, cutoff=0.25)[0, :, :, 0], expected, atol=1e-6)


def test_radius_in_units_of_nyquist():
  radius = frequency.radius(8, 8)
  assert radius[0, 4] == 1.0 and radius[4, 0] == 1.0 and radius[0, 0] == 0.0
  assert radius[4, 4] == pytest.approx(2**0.5)


def test_cutoff_is_checked():
  with pytest.raises(ValueError, match=r'losses.hf_cutoff must lie in \(0, 1\], got 0'):
    frequency.high_pass(jnp.zeros((1, 8, 8, 3)), cutoff=0)
