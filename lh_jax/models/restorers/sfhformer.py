"""SFHformer: a U-net whose blocks mix space by depthwise convolutions and by a learned filter on the Fourier plane.

The block is that of Jiang et al., "When Fast Fourier Transform Meets Transformer for Image Restoration" (ECCV 2024);
the paper restores latents with it by default (Sec. 4, Table 5c). Contract: normalised latents (B, h, w, C_z) float32 in
and out, any h and w. Where we differ from the published network: the input is added to the output, the last
convolution starts at zero, so that the restorer starts as the identity, and the padding of convolutions is zero.

Transforms, norm statistics and the residual around the network are float32; the rest runs in `dtype`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lh_jax.models.layers import DepthwiseConv, LayerNorm2d, depth_to_space

NORMS = ('batch', 'layer', 'none')
POSITION = 3  # side of the Fourier unit's depthwise kernel


def gelu(x: jax.Array) -> jax.Array:
  """The exact GELU, x Phi(x)."""
  return _gelu(x) if x.dtype == jnp.float32 else nn.gelu(x, approximate=False)


# By erf rather than by JAX's erfc: less than half the time, and wrong by no more than 1e-7 |x|. With a rule of ours, a
# training step keeps one array for the derivative instead of three.
@jax.custom_jvp
def _gelu(x: jax.Array) -> jax.Array:
  return x * _normal_cdf(x)


@_gelu.defjvp
def _gelu_derivative(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
  (x,), (tangent,) = primals, tangents
  cdf = _normal_cdf(x)
  density = jnp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
  return x * cdf, tangent * (cdf + x * density)


def _normal_cdf(x: jax.Array) -> jax.Array:
  return 0.5 + 0.5 * lax.erf(x * math.sqrt(0.5))


def _norm(kind: str, *, train: bool, dtype: Any, name: str, axis: int = -1) -> Callable[[jax.Array], jax.Array]:
  if kind == 'batch':
    # The bins of low frequency have large means: the fast variance E[x^2] - E[x]^2 would cancel there.
    return nn.BatchNorm(
      use_running_average=not train,
      axis=axis,
      momentum=0.9,
      epsilon=1e-5,
      use_fast_variance=False,
      dtype=dtype,
      name=name,
    )
  if kind == 'layer':
    layer = LayerNorm2d(dtype=dtype, name=name)
    return lambda x: jnp.moveaxis(layer(jnp.moveaxis(x, axis, -1)), -1, axis)
  return lambda x: x.astype(dtype)


def _as_dot(x: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
  return lax.dot_general(x, kernel[0, 0], (((x.ndim - 1,), (0,)), ((), ())))


# A convolution of 1x1 pixels written as the matrix product that it is: XLA's CPU convolution is up to twice as slow.
Pointwise = functools.partial(nn.Conv, kernel_size=(1, 1), conv_general_dilated=_as_dot)


class Weights(nn.Module):
  """The parameters of a convolution, 'kernel' and 'bias', for a caller who computes it in a form of its own."""

  shape: tuple[int, ...]  # HWIO
  dtype: Any

  @nn.compact
  def __call__(self) -> tuple[jax.Array, jax.Array]:
    kernel = self.param('kernel', nn.initializers.lecun_normal(), self.shape, jnp.float32)
    bias = self.param('bias', nn.initializers.zeros, self.shape[-1:], jnp.float32)
    return kernel.astype(self.dtype), bias.astype(self.dtype)


class FourierUnit(nn.Module):
  """Filters an image on its Fourier plane with 1x1 convolutions, chosen per frequency among `groups` of them.

  Under the orthonormal transform the bins near zero frequency grow with sqrt(h w): batch statistics taken at one
  latent size fit another only in part, which the norms 'layer' and 'none' avoid.
  """

  groups: int
  norm: str
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (B, h, w, C) to (B, h, w, C) in `dtype`."""
    b, h, w, c = x.shape
    # Channels stand first from here on: transforms want the pixels innermost, and nothing is transposed in between.
    plane = jnp.fft.rfft2(x.astype(jnp.float32).transpose(3, 0, 1, 2), norm='ortho')
    half = plane.shape[-1]
    # Real and imaginary part of a channel are neighbours.
    f = jnp.stack([plane.real, plane.imag], axis=1).reshape(2 * c, b, h, half)
    f = _norm(self.norm, train=train, dtype=self.dtype, name='norm', axis=0)(f)
    weights = [Weights(shape, self.dtype, name=name)() for name, shape in self._kernels(c).items()]
    f = _filter(f, *weights, groups=self.groups).astype(jnp.float32).reshape(c, 2, b, h, half)
    plane = lax.complex(f[:, 0], f[:, 1])
    return jnp.fft.irfft2(plane, s=(h, w), norm='ortho').transpose(1, 2, 3, 0).astype(self.dtype)

  def _kernels(self, c: int) -> dict[str, tuple[int, ...]]:
    return {
      'position': (POSITION, POSITION, 1, 2 * c),
      'gates': (1, 1, 2 * c, self.groups),
      'filters': (1, 1, 2 * c // self.groups, 2 * c * self.groups),
    }

  def multiply_adds(self, x: jax.Array) -> int:
    """Counts the multiply-adds of the convolutions on the plane of x, for `lh_jax.models.summary`."""
    b, h, w, c = x.shape
    return b * h * (w // 2 + 1) * sum(math.prod(shape) for shape in self._kernels(c).values())


@functools.partial(jax.jit, static_argnames='groups')
def _filter(f: jax.Array, position: tuple, gates: tuple, filters: tuple, *, groups: int) -> jax.Array:
  """Maps a plane (2 C, B, h, half) to the filtered plane of the same shape; each pair is a kernel and its bias."""
  channels, b, h, half = f.shape
  f = _with_position(f, *position)
  kernel, bias = (p.reshape(-1, groups, channels) for p in filters)
  if groups == 1:
    # The gates are the softmax of one number, which is 1.
    y = lax.dot_general(kernel[:, 0], f, (((0,), (0,)), ((), ()))) + bias[0, 0].reshape(-1, 1, 1)
  else:
    weight = jnp.einsum('cg,cbn->gbn', gates[0][0, 0], f) + gates[1].reshape(-1, 1, 1)
    weight = nn.softmax(weight.astype(jnp.float32), axis=0).astype(f.dtype)
    y = jnp.einsum('igo,gibn->gobn', kernel, f.reshape(groups, -1, *f.shape[1:])) + bias[0, ..., None, None]
    y = jnp.sum(weight[:, None] * y, axis=0)
  return gelu(y).reshape(channels, b, h, -1)[..., :half]


def _with_position(f: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
  """Adds to a plane (C, B, h, half) its depthwise convolution, flattened to (C, B, h (half + 2)).

  Rows are padded and laid end to end, which makes a shift by a tap a shift of one long row: several times as fast on
  the CPU as shifts of the plane, where XLA works out row and column of each element. The two last columns of each row
  are meaningless.
  """
  channels, b, h, half = f.shape
  width = half + POSITION - 1
  margin = POSITION // 2
  # The last tap of the last row runs over the end by the margins of a row: room for it.
  f = jnp.pad(f, ((0, 0), (0, 0), (margin, margin + 1), (margin, margin))).reshape(channels, b, -1)
  centre = margin * (width + 1)
  return f[..., centre : centre + h * width] + _correlate(f, kernel, width, h * width) + bias.reshape(-1, 1, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _correlate(rows: jax.Array, kernel: jax.Array, width: int, count: int) -> jax.Array:
  """Maps long rows (C, B, N) to (C, B, count); the tap kernel[i, j, 0] looks i width + j elements ahead."""
  total = jnp.zeros((), jnp.float32)
  for i, j in itertools.product(*map(range, kernel.shape[:2])):
    window = lax.slice_in_dim(rows, i * width + j, i * width + j + count, axis=2)
    total += window.astype(jnp.float32) * kernel[i, j].reshape(-1, 1, 1).astype(jnp.float32)
  return total.astype(rows.dtype)


def _correlate_forward(rows: jax.Array, kernel: jax.Array, width: int, count: int) -> tuple[jax.Array, tuple]:
  return _correlate(rows, kernel, width, count), (rows, kernel)


# The rule is ours because the derivative that JAX finds keeps the rows once for each tap.
def _correlate_backward(width: int, count: int, saved: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
  rows, kernel = saved
  kh, kw = kernel.shape[:2]
  length, reach = rows.shape[-1], (kh - 1) * width + kw - 1

  def tap(ahead: jax.Array) -> jax.Array:
    window = lax.dynamic_slice_in_dim(rows, ahead, count, axis=2)
    return jnp.sum(window.astype(jnp.float32) * gradient.astype(jnp.float32), axis=(1, 2))

  offsets = (jnp.arange(kh)[:, None] * width + jnp.arange(kw)).reshape(-1)
  of_kernel = lax.map(tap, offsets).reshape(kernel.shape).astype(kernel.dtype)
  # The transposed correlation is one with the kernel mirrored.
  padded = jnp.pad(gradient, ((0, 0), (0, 0), (reach, length - count)))
  return _correlate(padded, kernel[::-1, ::-1], width, length), of_kernel


_correlate.defvjp(_correlate_forward, _correlate_backward)


class Mixer(nn.Module):
  """Mixes space: half of the features by dilated depthwise convolutions, half by a Fourier unit, then channel gates."""

  groups: int
  norm: str
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (B, h, w, C) to (B, h, w, C), C even."""
    c = x.shape[-1]
    conv1 = functools.partial(Pointwise, dtype=self.dtype)
    near, far = jnp.split(conv1(2 * c, name='expand')(x), 2, axis=-1)

    fine, coarse = jnp.split(near, 2, axis=-1)
    fine = DepthwiseConv(3, dtype=self.dtype, name='local1')(fine)
    coarse = DepthwiseConv(3, dilation=2, dtype=self.dtype, name='local2')(coarse)

    t = gelu(conv1(2 * c, name='global_in')(far))
    t = t + FourierUnit(self.groups, self.norm, self.dtype, name='fourier')(t, train=train)
    wide = gelu(conv1(c, name='global_out')(t))

    m = gelu(jnp.concatenate([fine, coarse, wide], axis=-1))
    mean = jnp.mean(m.astype(jnp.float32), axis=(1, 2), keepdims=True).astype(self.dtype)
    m = m * nn.sigmoid(conv1(2 * c, name='gate_out')(nn.relu(conv1(c, name='gate_in')(mean))))
    return conv1(c, name='project')(m)


class FeedForward(nn.Module):
  """Mixes channels: four quarters of the expanded features see windows of 1, 3, 5 and 7 pixels."""

  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (B, h, w, C) to (B, h, w, C), C even."""
    c = x.shape[-1]
    quarters = jnp.split(Pointwise(2 * c, dtype=self.dtype, name='expand')(x), 4, axis=-1)
    for i, size in ((1, 3), (2, 5), (3, 7)):
      quarters[i] = DepthwiseConv(size, dtype=self.dtype, name=f'window{size}')(quarters[i])
    return Pointwise(c, dtype=self.dtype, name='project')(gelu(jnp.concatenate(quarters, axis=-1)))


class SFHBlock(nn.Module):
  """y = x + beta Mixer(N(x)); y + gamma FeedForward(N(y)); beta and gamma start at zero.

  Attributes:
    groups: filters that a Fourier unit chooses among; 1 for simple tasks, 4 for hard ones.
    norm: 'batch', 'layer' or 'none', here and in the Fourier unit.
    dtype: of the activations.
  """

  groups: int = 1
  norm: str = 'batch'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (B, h, w, C) to (B, h, w, C) in `dtype`, C even."""
    c = x.shape[-1]
    norm = functools.partial(_norm, self.norm, train=train, dtype=self.dtype)
    beta = self.param('beta', nn.initializers.zeros, (c,), jnp.float32).astype(self.dtype).reshape(1, 1, 1, c)
    gamma = self.param('gamma', nn.initializers.zeros, (c,), jnp.float32).astype(self.dtype).reshape(1, 1, 1, c)
    mixer = Mixer(self.groups, self.norm, self.dtype, name='mixer')
    x = x.astype(self.dtype)
    x = x + beta * mixer(norm(name='norm1')(x), train=train)
    return x + gamma * FeedForward(self.dtype, name='feed_forward')(norm(name='norm2')(x))


class SFHformer(nn.Module):
  """Latent restorer z -> z + net(z); net is a U-net of SFH blocks.

  Attributes:
    channels: of the latent, in and out.
    dims: channels of the stages, down to the middle one and up again; their number is odd, each is even. Three dims
      make one halving of the resolution, a single one a flat network.
    blocks: blocks per stage.
    groups: see `SFHBlock`.
    norm: 'batch' (as published), 'layer' or 'none'.
    dtype: of the activations; bfloat16 for GPUs and TPUs.
  """

  channels: int = 32
  dims: Sequence[int] = (32, 64, 32)
  blocks: Sequence[int] = (2, 3, 2)
  groups: int = 1
  norm: str = 'batch'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array, *, train: bool) -> jax.Array:
    """Restores latents.

    Args:
      z: (B, h, w, channels), normalised, of any height and width: padded here by edge replication to a multiple of
        the U-net's stride, and cropped back.
      train: batch norms use the batch's statistics and update the running ones ('batch_stats' must be mutable).

    Returns:
      (B, h, w, channels) float32.

    Raises:
      ValueError: fields that do not fit each other, or latents of another channel count.
    """
    self._check(z)
    conv = functools.partial(nn.Conv, dtype=self.dtype)
    depth = len(self.dims) // 2
    stride = 2**depth
    h, w = z.shape[1:3]
    x = jnp.pad(z, ((0, 0), (0, -h % stride), (0, -w % stride), (0, 0)), mode='edge')

    x = conv(self.dims[0], (3, 3), name='conv_in')(x)
    skips = []
    for i in range(depth):
      x = self._stage(x, i, train=train)
      skips.append(x)
      x = conv(self.dims[i + 1], (2, 2), strides=(2, 2), name=f'down{i}')(x)
    x = self._stage(x, depth, train=train)
    for i in range(depth + 1, len(self.dims)):
      x = depth_to_space(Pointwise(4 * self.dims[i], use_bias=False, dtype=self.dtype, name=f'up{i}')(x), 2)
      x = Pointwise(self.dims[i], dtype=self.dtype, name=f'skip{i}')(jnp.concatenate([x, skips.pop()], axis=-1))
      x = self._stage(x, i, train=train)
    x = conv(self.channels, (3, 3), kernel_init=nn.initializers.zeros, name='conv_out')(x)

    return z.astype(jnp.float32) + x[:, :h, :w].astype(jnp.float32)

  def _stage(self, x: jax.Array, index: int, *, train: bool) -> jax.Array:
    for j in range(self.blocks[index]):
      x = SFHBlock(self.groups, self.norm, self.dtype, name=f'stage{index}_block{j}')(x, train=train)
    return x

  def _check(self, z: jax.Array) -> None:
    if len(self.dims) % 2 == 0 or len(self.dims) != len(self.blocks):
      raise ValueError(
        f'SFHformer got dims={tuple(self.dims)} and blocks={tuple(self.blocks)}; both need the same odd length '
        '(change restorer.dims or restorer.blocks)'
      )
    if any(dim % 2 for dim in self.dims):
      raise ValueError(f'SFHformer got dims={tuple(self.dims)}; each must be even (change restorer.dims)')
    if any(4 * dim % self.groups for dim in self.dims):
      raise ValueError(
        f'SFHformer got groups={self.groups} for dims={tuple(self.dims)}; groups must divide 4 times each dim '
        '(change restorer.groups)'
      )
    if self.norm not in NORMS:
      raise ValueError(f'unknown restorer norm {self.norm!r}; known norms: {", ".join(NORMS)}')
    if z.shape[-1] != self.channels:
      raise ValueError(
        f'SFHformer got latents of shape {z.shape}; their last axis must be channels={self.channels} '
        '(vae.latent_channels)'
      )
