"""Layers that more than one network uses: norms, space-to-depth and back, depthwise convolution.

Contract: activations are (B, H, W, C) and keep their dtype (float32 or bfloat16); parameters and every statistic are
float32. Nothing here mixes distant pixels except the norm kind 'group' and, in training, `BatchNorm`, so networks built
on the kind 'layer' can be tiled exactly.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

NORMS = ('layer', 'group')
DEPTHWISE_METHODS = ('auto', 'conv', 'shift')
GROUPS = 4  # of the norm kind 'group'
EPSILON = 1e-6


class LayerNorm2d(nn.Module):
  """Normalises the channels of each pixel, then scales and shifts each channel (Ba et al. 2016, arXiv:1607.06450).

  The statistics of a pixel come from that pixel alone, so the result does not depend on the image size.

  Attributes:
    epsilon: added to the variance.
    dtype: of the result; None keeps the input's.
  """

  epsilon: float = EPSILON
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (..., C) to (..., C)."""
    shape = (1,) * (x.ndim - 1) + (x.shape[-1],)
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],), jnp.float32)
    bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],), jnp.float32)
    wide = x.astype(jnp.float32)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    y = centred * lax.rsqrt(variance + self.epsilon)
    y = y * scale.reshape(shape) + bias.reshape(shape)
    return y.astype(self.dtype or x.dtype)


class BatchNorm(nn.Module):
  """Normalises each channel by its statistics over the batch and all pixels (Ioffe & Szegedy 2015, arXiv:1502.03167).

  One pass over the data, forward and backward: where the batch is spread over devices, the two sums of either are
  independent and travel together, half the messages of mean first and variance after. The sums are of x minus the
  running mean, so that the variance does not cancel where a channel's mean is large against its spread.

  Parameters 'scale' and 'bias', each (C,); statistics 'mean' and 'var', each (C,), in 'batch_stats', where the variance
  is the biased one.

  Attributes:
    train: normalise by the batch's statistics and update the running ones, if 'batch_stats' is mutable; else by those.
    axis: of the channels.
    momentum: share of the old running statistics in the new ones.
    epsilon: added to the variance.
    dtype: of the result; None keeps the input's.
  """

  train: bool
  axis: int = -1
  momentum: float = 0.9
  epsilon: float = 1e-5
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (..., C, ...) to the same shape."""
    channels = x.shape[self.axis]
    mean = self.variable('batch_stats', 'mean', jnp.zeros, (channels,), jnp.float32)
    var = self.variable('batch_stats', 'var', jnp.ones, (channels,), jnp.float32)
    scale = self.param('scale', nn.initializers.ones, (channels,), jnp.float32)
    bias = self.param('bias', nn.initializers.zeros, (channels,), jnp.float32)

    others = [i for i in range(x.ndim) if i != self.axis % x.ndim]
    spread = functools.partial(jnp.expand_dims, axis=others)
    wide = x.astype(jnp.float32) - spread(mean.value)
    offset, variance = jnp.zeros(()), var.value
    if self.train:
      offset, square = jnp.mean(wide, axis=others), jnp.mean(jnp.square(wide), axis=others)
      variance = jnp.maximum(square - jnp.square(offset), 0)
      if self.is_mutable_collection('batch_stats') and not self.is_initializing():
        mean.value += (1 - self.momentum) * offset
        var.value += (1 - self.momentum) * (variance - var.value)
    factor = scale * lax.rsqrt(variance + self.epsilon)
    y = wide * spread(factor) + spread(bias - offset * factor)
    return y.astype(self.dtype or x.dtype)


def make_norm(kind: str, *, dtype: Any = None, name: str | None = None) -> nn.Module:
  """Builds the norm that a config names.

  Args:
    kind: 'layer' (per pixel, local) or 'group' (4 groups, statistics over the whole image, Wu & He 2018).
    dtype: of the result; None keeps the input's.
    name: linen name of the sub-module.

  Returns:
    A module (B, H, W, C) -> (B, H, W, C) with the parameters 'scale' and 'bias', each (C,), and epsilon 1e-6.

  Raises:
    ValueError: unknown kind.
  """
  if kind == 'layer':
    return LayerNorm2d(dtype=dtype, name=name)
  if kind == 'group':
    # The fast variance E[x^2] - E[x]^2 cancels where a channel's mean is large against its spread.
    return nn.GroupNorm(GROUPS, epsilon=EPSILON, use_fast_variance=False, dtype=dtype, name=name)
  raise ValueError(f'unknown norm {kind!r}; known norms: {", ".join(NORMS)}')


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
  """Moves each block x block patch into channels, ordered (block row, block column, channel).

  Args:
    x: (B, H, W, C), H and W multiples of block.
    block: side of the patch in pixels.

  Returns:
    (B, H / block, W / block, block^2 C).

  Raises:
    ValueError: H or W is not a multiple of block.
  """
  b, h, w, c = x.shape
  if h % block or w % block:
    raise ValueError(f'space_to_depth got {h}x{w} pixels; height and width must be multiples of block={block}')
  x = x.reshape(b, h // block, block, w // block, block, c)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // block, w // block, block * block * c)


def depth_to_space(x: jax.Array, block: int) -> jax.Array:
  """Inverse of `space_to_depth`.

  Args:
    x: (B, H, W, block^2 C), channels ordered (block row, block column, channel).
    block: side of the patch in pixels.

  Returns:
    (B, block H, block W, C).

  Raises:
    ValueError: the channel count is not a multiple of block^2.
  """
  b, h, w, c = x.shape
  if c % (block * block):
    raise ValueError(f'depth_to_space got {c} channels; they must be a multiple of block^2={block * block}')
  x = x.reshape(b, h, w, block, block, c // (block * block))
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * block, w * block, c // (block * block))


def depthwise_conv(x: jax.Array, kernel: jax.Array, *, dilation: int = 1, method: str = 'auto') -> jax.Array:
  """Convolves each channel with its own kernel, zero padding, same size out.

  Two forms of one function (they agree to float32 rounding): 'conv' is the grouped convolution of XLA, 'shift' sums
  shifted copies of the image, one per kernel tap, and has reverse-mode derivatives only. On the CPU backend 'shift'
  won at every size that `experiments/bench_depthwise.py` tries, forward and backward. 'auto' is resolved when the
  program is lowered, so a program compiled on a CPU machine for an accelerator gets the accelerator's form.

  Args:
    x: (B, H, W, C).
    kernel: (kh, kw, 1, C), HWIO as `lax.conv_general_dilated` wants it; correlation, not flipped.
    dilation: spacing of the taps in pixels.
    method: 'shift', 'conv' or 'auto' (shift on the CPU, conv elsewhere).

  Returns:
    (B, H, W, C) in the dtype of x.

  Raises:
    ValueError: the kernel does not fit the channels of x, or the method is unknown.
  """
  if kernel.ndim != 4 or kernel.shape[2:] != (1, x.shape[-1]):
    raise ValueError(
      f'depthwise_conv got a kernel of shape {kernel.shape} for {x.shape[-1]} channels; '
      f'it must be (kh, kw, 1, {x.shape[-1]})'
    )

  def shift(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _depthwise_shift(x, kernel, dilation)

  def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _depthwise_grouped(x, kernel, dilation=dilation)

  if method == 'shift':
    return shift(x, kernel)
  if method == 'conv':
    return conv(x, kernel)
  if method == 'auto':
    return lax.platform_dependent(x, kernel, cpu=shift, default=conv)
  raise ValueError(f'unknown depthwise method {method!r}; known methods: {", ".join(DEPTHWISE_METHODS)}')


def _depthwise_grouped(x: jax.Array, kernel: jax.Array, *, dilation: int) -> jax.Array:
  return lax.conv_general_dilated(
    x,
    kernel.astype(x.dtype),
    window_strides=(1, 1),
    padding='SAME',
    rhs_dilation=(dilation, dilation),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1],
  )


def _margins(kernel: jax.Array, dilation: int) -> list[tuple[int, int]]:
  """Padding of rows and columns; an even kernel has the odd pixel at the bottom right, as padding 'SAME' does."""
  reaches = [(side - 1) * dilation for side in kernel.shape[:2]]
  return [(reach // 2, reach - reach // 2) for reach in reaches]


# Compiled on its own, the sum is traced once for each shape: one network holds many of the same.
@functools.partial(jax.jit, static_argnames=('dilation', 'transpose'))
def _shifted_sum(x: jax.Array, kernel: jax.Array, *, dilation: int, transpose: bool) -> jax.Array:
  """Depthwise correlation as a sum over taps; `transpose` applies the adjoint, which mirrors kernel and margins."""
  b, h, w, c = x.shape
  kh, kw = kernel.shape[:2]
  margins = _margins(kernel, dilation)
  if transpose:
    margins = [(after, before) for before, after in margins]
    kernel = kernel[::-1, ::-1]
  padded = jnp.pad(x, [(0, 0), *margins, (0, 0)])
  # The kernel is rounded like the operands of the grouped form; the sum is kept in float32 as the hardware does.
  taps = kernel.astype(x.dtype).astype(jnp.float32)
  total = jnp.zeros(x.shape, jnp.float32)
  for i in range(kh):
    for j in range(kw):
      top, left = i * dilation, j * dilation
      window = lax.slice(padded, (0, top, left, 0), (b, top + h, left + w, c))
      total += window.astype(jnp.float32) * taps[i, j].reshape(1, 1, 1, c)
  return total.astype(x.dtype)


# The rule is ours because the derivative that JAX finds keeps a padded copy of the image for each tap. The sums for the
# kernel run in a loop over the taps: unrolled, or as the grouped form's, they take several times as long on the CPU.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise_shift(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
  return _shifted_sum(x, kernel, dilation=dilation, transpose=False)


def _depthwise_shift_forward(x: jax.Array, kernel: jax.Array, dilation: int) -> tuple[jax.Array, tuple]:
  return _shifted_sum(x, kernel, dilation=dilation, transpose=False), (x, kernel)


def _depthwise_shift_backward(dilation: int, saved: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
  x, kernel = saved
  kh, kw = kernel.shape[:2]
  padded = jnp.pad(x, [(0, 0), *_margins(kernel, dilation), (0, 0)])

  def tap(corner: jax.Array) -> jax.Array:
    window = lax.dynamic_slice(padded, (0, *corner, 0), x.shape)
    return jnp.sum(window.astype(jnp.float32) * gradient.astype(jnp.float32), axis=(1, 2))

  corners = dilation * jnp.stack(jnp.divmod(jnp.arange(kh * kw), kw), axis=1)
  # Over the batch at last: where it is spread over devices, all taps travel together.
  of_kernel = jnp.sum(lax.map(tap, corners), axis=1).reshape(kernel.shape).astype(kernel.dtype)
  return _shifted_sum(gradient, kernel, dilation=dilation, transpose=True), of_kernel


_depthwise_shift.defvjp(_depthwise_shift_forward, _depthwise_shift_backward)


class DepthwiseConv(nn.Module):
  """Depthwise convolution; parameters 'kernel' (k, k, 1, C) and 'bias' (C,).

  Attributes:
    kernel_size: side k of the square kernel.
    dilation: spacing of the taps in pixels.
    method: see `depthwise_conv`.
    use_bias: add a bias.
    dtype: of the computation and of the result; None keeps the input's.
  """

  kernel_size: int
  dilation: int = 1
  method: str = 'auto'
  use_bias: bool = True
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (B, H, W, C) to (B, H, W, C)."""
    c = x.shape[-1]
    shape = (self.kernel_size, self.kernel_size, 1, c)
    kernel = self.param('kernel', nn.initializers.lecun_normal(), shape, jnp.float32)
    x = x.astype(self.dtype or x.dtype)
    y = depthwise_conv(x, kernel, dilation=self.dilation, method=self.method)
    if not self.use_bias:
      return y
    bias = self.param('bias', nn.initializers.zeros, (c,), jnp.float32)
    return y + bias.astype(y.dtype).reshape(1, 1, 1, c)
