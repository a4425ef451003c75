"""The Fourier unit of SFHformer: a learned filter on the Fourier plane, with the norms that it shares.

Contract: images are (B, h, w, C) in and out; between the two transforms the channels stand first, which is the order
that transforms want. Transforms and norm statistics are float32; the rest runs in `dtype`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lh_jax.models.layers import BatchNorm, LayerNorm2d
from lh_jax.models.pointwise import Weights, gelu
from lh_jax.ops.fourier import irfft2, rfft2

NORMS = ('batch', 'layer', 'none')
POSITION = 3  # side of the Fourier unit's depthwise kernel


def norm(kind: str, *, train: bool, dtype: Any, name: str, axis: int = -1) -> Callable[[jax.Array], jax.Array]:
  """Builds the norm of a kind that `NORMS` names over the channels, which lie along `axis`; the result has `dtype`."""
  if kind == 'batch':
    return BatchNorm(train, axis=axis, dtype=dtype, name=name)
  if kind == 'layer':
    layer = LayerNorm2d(dtype=dtype, name=name)
    return lambda x: jnp.moveaxis(layer(jnp.moveaxis(x, axis, -1)), -1, axis)
  return lambda x: x.astype(dtype)


class FourierUnit(nn.Module):
  """Filters an image on its Fourier plane with 1x1 convolutions, chosen per frequency among `groups` of them.

  Under the orthonormal transform the bins near zero frequency grow with sqrt(h w): batch statistics taken at one
  latent size fit another only in part, and the norm 'layer' gives each bin one size, so that what this unit adds to the
  mean fades in larger latents: brightness drifts (experiments/README.md, "Towards bundled weights"). 'none' does not.

  Attributes:
    groups: of filters.
    norm: see `norm`.
    dtype: of the activations.
    gated: have the convolution that chooses among the groups, as published even for a single one, where it changes
      nothing.
  """

  groups: int
  norm: str
  dtype: Any
  gated: bool = True

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (B, h, w, C) to (B, h, w, C) in `dtype`."""
    b, h, w, c = x.shape
    # Channels stand first from here on: transforms want the pixels innermost, and nothing is transposed in between.
    scale = 1 / math.sqrt(h * w)  # Of the orthonormal transform.
    plane = scale * rfft2(x.astype(jnp.float32).transpose(3, 0, 1, 2))
    half = plane.shape[-1]
    # Real and imaginary part of a channel are neighbours.
    f = jnp.stack([plane.real, plane.imag], axis=1).reshape(2 * c, b, h, half)
    f = norm(self.norm, train=train, dtype=self.dtype, name='norm', axis=0)(f)
    weights = {name: Weights(shape, self.dtype, name=name)() for name, shape in self._kernels(c).items()}
    f = _filter(f, **weights, groups=self.groups).astype(jnp.float32).reshape(c, 2, b, h, half)
    plane = lax.complex(f[:, 0], f[:, 1])
    return (irfft2(plane, (h, w)) / scale).transpose(1, 2, 3, 0).astype(self.dtype)

  def _kernels(self, c: int) -> dict[str, tuple[int, ...]]:
    return {
      'position': (POSITION, POSITION, 1, 2 * c),
      **({'gates': (1, 1, 2 * c, self.groups)} if self.gated else {}),
      'filters': (1, 1, 2 * c // self.groups, 2 * c * self.groups),
    }

  def multiply_adds(self, x: jax.Array) -> int:
    """Counts the multiply-adds of the convolutions on the plane of x, for `lh_jax.models.summary`."""
    b, h, w, c = x.shape
    return b * h * (w // 2 + 1) * sum(math.prod(shape) for shape in self._kernels(c).values())


@functools.partial(jax.jit, static_argnames='groups')
def _filter(f: jax.Array, *, position: tuple, filters: tuple, gates: tuple | None = None, groups: int) -> jax.Array:
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

  offsets = (jnp.arange(kh)[:, None] * width + jnp.arange(kw)[None]).reshape(-1)
  of_kernel = lax.map(tap, offsets).reshape(kernel.shape).astype(kernel.dtype)
  # The transposed correlation is one with the kernel mirrored.
  padded = jnp.pad(gradient, ((0, 0), (0, 0), (reach, length - count)))
  return _correlate(padded, kernel[::-1, ::-1], width, length), of_kernel


_correlate.defvjp(_correlate_forward, _correlate_backward)
