"""The blocks of the frequency-enhanced VAE: filters of amplitudes, and up-sampling on the Fourier plane.

The authors' earlier public code (UHD-Processer) defines them; they stand in no paper in such detail. Contract: images
(B, H, W, C) in and out, in `dtype`; transforms and all that happens to amplitudes and phases is float32, because
amplitudes of one image differ by more than bfloat16 tells apart. Between the transforms of a plane the channels stand
first, which is the order that transforms want.

Where we differ: the published filters replace the amplitude and keep the angle, which has no derivative where the
amplitude is zero. Ours scale, F A(|F|) / max(|F|, 1e-6) with |F| = sqrt(re^2 + im^2 + 1e-12): the same but for
amplitudes below 1e-6, whose published angle is chance or, at zero, 0; they stay what they are, next to nothing. Angles
keep their values, and have derivatives that end where the amplitude does. The angle of a negative frequency that is its
own opposite is pi; there, published, rounding decides between pi and -pi at some sizes.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lh_jax.models import layers
from lh_jax.models.pointwise import Pointwise, Weights
from lh_jax.ops import fourier
from lh_jax.ops import resize

TINY = 1e-6  # Smaller amplitudes have no angle.
SLOPE = 0.1  # of the leaky ReLU
Layer = tuple[jax.Array, jax.Array]  # kernel and bias


class ChannelFilter(nn.Module):
  """x + irfft(F A(|F|) / |F|), F = rfft(x) along the channels of each pixel; A is Conv1, leaky ReLU, Conv1."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (..., C) to (..., C)."""
    c = x.shape[-1]
    wide = x.astype(jnp.float32)
    real, imaginary = fourier.rfft_channels(wide)
    scale = _scale(real, imaginary, *(_weights(c // 2 + 1, name) for name in ('conv1', 'conv2')), axis=-1)
    return (wide + fourier.irfft_channels(scale * real, scale * imaginary, c)).astype(self.dtype)

  def multiply_adds(self, x: jax.Array) -> int:
    """Counts those of A, for `lh_jax.models.summary`."""
    return x.size // x.shape[-1] * 2 * (x.shape[-1] // 2 + 1) ** 2


class PlaneFilter(nn.Module):
  """x + irfft2(F A(|F|) / |F|), F = rfft2(x) over the pixels of each channel; A is Conv1, leaky ReLU, Conv1."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (B, H, W, C) to (B, H, W, C)."""
    c = x.shape[-1]
    wide = x.astype(jnp.float32)
    plane = fourier.rfft2(wide.transpose(3, 0, 1, 2))
    scale = _scale(plane.real, plane.imag, *(_weights(c, name) for name in ('conv1', 'conv2')), axis=0)
    return (wide + fourier.irfft2(scale * plane, x.shape[1:3]).transpose(1, 2, 3, 0)).astype(self.dtype)

  def multiply_adds(self, x: jax.Array) -> int:
    """Counts those of A, for `lh_jax.models.summary`."""
    b, h, w, c = x.shape
    return b * h * (w // 2 + 1) * 2 * c * c


class FEBlock(nn.Module):
  """A residual block with a branch on the Fourier plane and one on the image, each of which gates the other.

  u = ChannelFilter(x); h = N(u); p = PlaneFilter(Conv1 h); q = S(SiLU(N(S(SiLU(Conv1 h))))), S depthwise separable;
  Conv1 x + Conv1 [p sigmoid(q), q sigmoid(p)], without the first convolution where the channels stay the same. The last
  convolution starts at zero, unlike theirs: a chain of the norms' derivatives of a black image would overflow.

  Attributes:
    features: channels of the result.
    norm: kind of norm, see `layers.make_norm`.
    dtype: of the activations.
  """

  features: int
  norm: str = 'group'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (B, H, W, C) to (B, H, W, features)."""
    pointwise = functools.partial(Pointwise, dtype=self.dtype)
    norm = functools.partial(layers.make_norm, self.norm, dtype=self.dtype)
    half = self.features // 2
    h = norm(name='norm1')(ChannelFilter(self.dtype, name='channel_filter')(x))

    p = PlaneFilter(self.dtype, name='plane_filter')(pointwise(half, name='plane_in')(h))

    q = nn.silu(pointwise(half, name='image_in')(h))
    q = pointwise(half, name='pointwise1')(layers.DepthwiseConv(3, dtype=self.dtype, name='depthwise1')(q))
    q = nn.silu(norm(name='norm2')(q))
    q = pointwise(half, name='pointwise2')(layers.DepthwiseConv(3, dtype=self.dtype, name='depthwise2')(q))

    merged = jnp.concatenate([p * nn.sigmoid(q), q * nn.sigmoid(p)], axis=-1)
    skip = x if x.shape[-1] == self.features else pointwise(self.features, name='skip')(x)
    return skip + pointwise(self.features, kernel_init=nn.initializers.zeros, name='merge')(merged)


class FourierUp(nn.Module):
  """Doubles the resolution: Conv1(bilinear2x(x) + Conv1(U(x))), U on the Fourier plane.

  U, the form "pad": F = fft2(x); M = A(|F|) and P = A'(arg F), each Conv1, leaky ReLU, Conv1; both are repeated twice
  along either axis, and U(x) = |ifft2(M exp(iP))| (Zhou et al., "Deep Fourier Up-Sampling", NeurIPS 2022,
  arXiv:2210.05171, periodic padding).

  To repeat a spectrum is to put zeros between the pixels, so ours transforms back before it doubles. The plane need not
  be that of a real image; its real and imaginary part are, so a half plane of each is enough. And convolutions of 1x1
  pixels commute with the interpolation: what is left at the doubled size is one sum.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (B, H, W, C) to (B, 2 H, 2 W, C)."""
    c = x.shape[-1]
    names = ('amplitude1', 'amplitude2', 'phase1', 'phase2', 'post', 'fuse')
    amplitude1, amplitude2, phase1, phase2, post, fuse = (_weights(c, name) for name in names)
    plane = fourier.rfft2(x.astype(jnp.float32).transpose(3, 0, 1, 2))
    u = _filtered(plane, (amplitude1, amplitude2), (phase1, phase2), x.shape[1:3]).transpose(1, 2, 3, 0)

    kernel = fuse[0].astype(self.dtype)
    both = jnp.matmul(post[0], fuse[0], precision=lax.Precision.HIGHEST).astype(self.dtype)
    coarse = jnp.matmul(x.astype(self.dtype) + _per_channel(post[1], self.dtype), kernel)
    fine = resize.upsample_bilinear_2x(coarse + _per_channel(fuse[1], self.dtype))
    return fine + _spread(jnp.matmul(u.astype(self.dtype), both))

  def multiply_adds(self, x: jax.Array) -> int:
    """Counts those of the published form, for `lh_jax.models.summary`: ours need fewer."""
    return x.size * x.shape[-1] * (4 + 2 * 4)


def _weights(channels: int, name: str) -> Layer:
  kernel, bias = Weights((1, 1, channels, channels), jnp.float32, name=name)()
  return kernel[0, 0], bias


def _per_channel(values: jax.Array, dtype: Any) -> jax.Array:
  return values.astype(dtype).reshape(1, 1, 1, -1)


def _conv(x: jax.Array, layer: Layer, *, axis: int) -> jax.Array:
  """A 1x1 convolution in float32 of channels that stand last (axis -1) or first (axis 0)."""
  kernel, bias = layer
  # Products whose operands a GPU or TPU has rounded are not float32.
  product = functools.partial(lax.dot_general, precision=lax.Precision.HIGHEST)
  if axis == 0:
    return product(kernel, x, (((0,), (0,)), ((), ()))) + bias.reshape((-1,) + (1,) * (x.ndim - 1))
  return product(x, kernel, (((x.ndim - 1,), (0,)), ((), ()))) + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def _mixed(x: jax.Array, first: Layer, second: Layer, *, axis: int) -> jax.Array:
  """Conv1, leaky ReLU, Conv1."""
  return _conv(nn.leaky_relu(_conv(x, first, axis=axis), SLOPE), second, axis=axis)


def _amplitude(real: jax.Array, imaginary: jax.Array) -> jax.Array:
  return jnp.sqrt(real * real + imaginary * imaginary + TINY**2)


def _scale(real: jax.Array, imaginary: jax.Array, first: Layer, second: Layer, *, axis: int) -> jax.Array:
  """A(|F|) / |F|, by which a filter multiplies F."""
  amplitude = _amplitude(real, imaginary)
  return _mixed(amplitude, first, second, axis=axis) / jnp.maximum(amplitude, TINY)


@jax.custom_jvp
def phase(real: jax.Array, imaginary: jax.Array) -> jax.Array:
  """The angle of a complex number in [-pi, pi], whose derivative is finite where the number is zero."""
  return jnp.arctan2(imaginary, real)


@phase.defjvp
def _phase_derivative(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
  (real, imaginary), (d_real, d_imaginary) = primals, tangents
  turn = (real * d_imaginary - imaginary * d_real) / (real * real + imaginary * imaginary + TINY**2)
  return phase(real, imaginary), turn


def _filtered(
  plane: jax.Array, amplitude_layers: tuple[Layer, Layer], phase_layers: tuple[Layer, Layer], size: tuple[int, int]
) -> jax.Array:
  """|ifft2(M exp(iP))| before it is doubled, (C, B, *size), from the half plane of a real image.

  F(-k) is the conjugate of F(k): its amplitude is the same, its angle the opposite. With G = M exp(iP), the half plane
  of the real part of ifft2(G) is (G(k) + G(-k)*) / 2, that of the imaginary part (G(k) - G(-k)*) / 2i.
  """
  real, imaginary = plane.real, jnp.where(_own_opposite(size), 0.0, plane.imag)
  m = 0.5 * _mixed(_amplitude(real, imaginary), *amplitude_layers, axis=0)
  angle = phase(real, imaginary)
  # A frequency that is its own opposite has no opposite angle.
  opposite = jnp.where(_own_opposite(size), angle, -angle)
  both = _mixed(jnp.stack([angle, opposite], axis=1), *phase_layers, axis=0)
  cos, sin = m[:, None] * jnp.cos(both), m[:, None] * jnp.sin(both)
  of_real = lax.complex(cos[:, 0] + cos[:, 1], sin[:, 0] - sin[:, 1])
  of_imaginary = lax.complex(sin[:, 0] + sin[:, 1], cos[:, 1] - cos[:, 0])
  parts = fourier.irfft2(jnp.stack([of_real, of_imaginary], axis=1), size)
  return _amplitude(parts[:, 0], parts[:, 1])


def _own_opposite(size: tuple[int, int]) -> np.ndarray:
  """Which frequencies of a half plane are their own opposites, (1, 1, h, w // 2 + 1): those of real value."""
  h, w = size
  rows, columns = np.arange(h), np.arange(w // 2 + 1)
  return ((2 * rows % h == 0)[:, None] & (2 * columns % w == 0)[None])[None, None]


def _spread(x: jax.Array) -> jax.Array:
  """Puts zeros between the pixels: (B, H, W, C) to (B, 2 H, 2 W, C), pixel (i, j) at (2 i, 2 j)."""
  return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (0, 1, 1), (0, 1, 1), (0, 0, 0)))
