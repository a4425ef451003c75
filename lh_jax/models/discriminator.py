"""Discriminator D_HF of the high-frequency GAN loss (Eq. 9): a U-net with spectral norms and one logit per pixel.

The structure is that of Wang et al., "Real-ESRGAN" (ICCV Workshops 2021, arXiv:2107.10833, Sec. 3.3); the norm is that
of Miyato et al. (ICLR 2018, arXiv:1802.05957). Contract: high-frequency images (B, H, W, 3) float32, H and W multiples
of 8, to logits (B, H, W, 1) float32; positive means real.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lh_jax.ops.resize import upsample_bilinear_2x

STRIDE = 8
INITIAL_POWER_ITERATIONS = 15


def _unit(v: jax.Array) -> jax.Array:
  # The epsilon is inside the root: the norm of an all-zero vector has no finite gradient.
  return v * lax.rsqrt(jnp.sum(jnp.square(v)) + 1e-12)


class SpectralConv(nn.Module):
  """Convolution without bias whose kernel, as a matrix (k k C_in, C_out), is divided by its largest singular value.

  The value is estimated by power iteration from the vector 'u' (C_out,) of the collection 'batch_stats', one iteration
  a call; it is differentiated with the singular vectors held fixed.

  Attributes:
    features: C_out.
    kernel_size: side k of the kernel.
    stride: of the convolution; the padding is (k - 1) // 2 pixels on each side.
    dtype: of the convolution; the estimate is float32.
  """

  features: int
  kernel_size: int = 3
  stride: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, update_stats: bool) -> jax.Array:
    """Maps (B, H, W, C_in) to (B, H / stride, W / stride, features)."""
    k = self.kernel_size
    kernel = self.param('kernel', nn.initializers.lecun_normal(), (k, k, x.shape[-1], self.features), jnp.float32)
    matrix = kernel.reshape(-1, self.features)
    u = self.variable('batch_stats', 'u', self._first_vector, matrix)

    dot = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    fixed = lax.stop_gradient(matrix)
    left = _unit(dot(fixed, u.value))
    right = _unit(dot(left, fixed))
    sigma = dot(dot(left, matrix), right)
    if update_stats and not self.is_initializing():
      u.value = right

    kernel = kernel / jnp.maximum(sigma, 1e-12)
    pad = ((k - 1) // 2,) * 2
    return lax.conv_general_dilated(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      (self.stride, self.stride),
      (pad, pad),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  def _first_vector(self, matrix: jax.Array) -> jax.Array:
    # One iteration from a random vector underestimates the value, and the first steps would see a network too large.
    u = _unit(jax.random.normal(self.make_rng('params'), (self.features,), jnp.float32))
    step = lambda _, u: _unit(jnp.matmul(_unit(jnp.matmul(matrix, u)), matrix))
    return lax.fori_loop(0, INITIAL_POWER_ITERATIONS, step, u)


class UNetDiscriminator(nn.Module):
  """Judges each pixel of a high-frequency image.

  Attributes:
    features: channels at full resolution; they double at each of the three halvings.
    dtype: of the activations.
  """

  features: int = 64
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, update_stats: bool) -> jax.Array:
    """Maps images to logits.

    Args:
      x: (B, H, W, 3), H and W multiples of 8.
      update_stats: store the advanced vectors of the power iteration ('batch_stats' must be mutable): True in the
        discriminator's own steps, False elsewhere.

    Returns:
      (B, H, W, 1) float32, not squashed.

    Raises:
      ValueError: H or W is not a multiple of 8.
    """
    h, w = x.shape[1:3]
    if h % STRIDE or w % STRIDE:
      raise ValueError(
        f'the discriminator got images of {h}x{w} pixels; height and width must be multiples of {STRIDE} '
        '(change stage2.crop_size)'
      )
    n = self.features
    act = functools.partial(nn.leaky_relu, negative_slope=0.2)

    def spectral(y: jax.Array, features: int, name: str, kernel_size: int = 3, stride: int = 1) -> jax.Array:
      conv = SpectralConv(features, kernel_size, stride, self.dtype, name=name)
      return act(conv(y, update_stats=update_stats))

    x0 = act(nn.Conv(n, (3, 3), dtype=self.dtype, name='conv0')(x))
    x1 = spectral(x0, 2 * n, 'conv1', 4, 2)
    x2 = spectral(x1, 4 * n, 'conv2', 4, 2)
    x3 = spectral(x2, 8 * n, 'conv3', 4, 2)

    y = spectral(upsample_bilinear_2x(x3), 4 * n, 'conv4') + x2
    y = spectral(upsample_bilinear_2x(y), 2 * n, 'conv5') + x1
    y = spectral(upsample_bilinear_2x(y), n, 'conv6') + x0
    y = spectral(y, n, 'conv7')
    y = spectral(y, n, 'conv8')
    return nn.Conv(1, (3, 3), dtype=self.dtype, name='conv9')(y).astype(jnp.float32)
