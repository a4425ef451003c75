"""Restormer's transformer block: attention among channels and a gated feed-forward network.

Zamir et al., "Restormer: Efficient Transformer for High-Resolution Image Restoration" (CVPR 2022, arXiv:2111.09881).
The attention compares whole channels over all pixels, so its cost is linear in them and its result depends on the whole
image: what holds such a block cannot be tiled exactly. Images are (B, h, w, C) in and out, in `dtype`; norms, products
over pixels and the softmax are float32.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lh_jax.models.layers import DepthwiseConv, LayerNorm2d
from lh_jax.models.pointwise import Pointwise, Weights, gelu

NORMS = ('layer', 'bias_free')
EPSILON = 1e-5  # of the norms
_SHORTEST = 1e-12  # Norms of queries and keys below this count as this.


class BiasFreeNorm(nn.Module):
  """Divides each pixel by the deviation of its channels, which are not centred, and scales each channel.

  Attributes:
    epsilon: added to the variance.
    dtype: of the result; None keeps the input's.
  """

  epsilon: float = EPSILON
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (..., C) to (..., C)."""
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],), jnp.float32)
    wide = x.astype(jnp.float32)
    variance = jnp.mean(jnp.square(wide - jnp.mean(wide, axis=-1, keepdims=True)), axis=-1, keepdims=True)
    y = wide * lax.rsqrt(variance + self.epsilon) * scale.reshape((1,) * (x.ndim - 1) + (-1,))
    return y.astype(self.dtype or x.dtype)


def make_norm(kind: str, *, dtype: Any = None, name: str | None = None) -> nn.Module:
  """Builds a norm of each pixel's channels, epsilon 1e-5, in the forms that Restormer was published with.

  Args:
    kind: 'layer' (scale and bias) or 'bias_free' (not centred, scale only: for denoising).
    dtype: of the result; None keeps the input's.
    name: linen name of the sub-module.

  Returns:
    A module (B, h, w, C) -> (B, h, w, C).

  Raises:
    ValueError: unknown kind.
  """
  if kind == 'layer':
    return LayerNorm2d(EPSILON, dtype, name=name)
  if kind == 'bias_free':
    return BiasFreeNorm(EPSILON, dtype, name=name)
  raise ValueError(f'unknown norm of a transformer block, {kind!r}; known norms: {", ".join(NORMS)}')


class TransposedAttention(nn.Module):
  """MDTA: per head, each output channel is a mean of channels, weighted by how much they look alike (Sec. 3.1).

  Parameters: 'qkv', 'qkv_depthwise' and 'project' (convolutions), 'temperature' (heads,).

  Attributes:
    heads: groups of neighbouring channels that see each other; they divide C.
    use_bias: of the convolutions.
    dtype: of the activations.
  """

  heads: int = 1
  use_bias: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (B, h, w, C) to (B, h, w, C) in `dtype`."""
    b, h, w, c = x.shape
    if c % self.heads:
      raise ValueError(f'transposed attention got {c} channels, which {self.heads} heads do not divide')
    temperature = self.param('temperature', nn.initializers.ones, (self.heads,), jnp.float32)
    qkv = Pointwise(3 * c, use_bias=self.use_bias, dtype=self.dtype, name='qkv')(x)
    qkv = DepthwiseConv(3, use_bias=self.use_bias, dtype=self.dtype, name='qkv_depthwise')(qkv)
    query, key, value = jnp.split(qkv.reshape(b, h * w, 3 * c), 3, axis=-1)

    attention = _similarities(query, key, self.heads) * temperature.reshape(1, -1, 1, 1)
    attention = nn.softmax(attention, axis=-1)
    # The mean of channels and the projection after it are linear in the pixels: one small matrix for both, instead of
    # two passes over the image.
    kernel, bias = Weights((1, 1, c, c), jnp.float32, self.use_bias, name='project')()
    kernel = kernel.reshape(self.heads, c // self.heads, c)
    matrix = jnp.einsum('bgij,gio->bgjo', attention, kernel).reshape(b, c, c).astype(self.dtype)
    return (jnp.einsum('bnc,bco->bno', value, matrix) + bias.astype(self.dtype).reshape(1, 1, c)).reshape(b, h, w, c)

  def multiply_adds(self, x: jax.Array) -> int:
    """Counts the multiply-adds of the projection, for `lh_jax.models.summary`."""
    return x.size * x.shape[-1]


def _similarities(query: jax.Array, key: jax.Array, heads: int) -> jax.Array:
  """Cosines between the channels of two (B, n, C), (B, heads, C / heads, C / heads) float32."""
  b, n, c = query.shape
  split = (b, n, heads, c // heads)
  dots = jnp.einsum('bngi,bngj->bgij', query.reshape(split), key.reshape(split), preferred_element_type=jnp.float32)

  def length(x: jax.Array) -> jax.Array:
    square = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=1).reshape(b, heads, c // heads)
    return jnp.sqrt(jnp.maximum(square, _SHORTEST**2))

  # Of channels divided by their lengths, as published; to divide the products afterwards saves passes over the image.
  return dots / length(query)[..., :, None] / length(key)[..., None, :]


class GatedFeedForward(nn.Module):
  """GDFN: one half of the expanded features gates the other (Sec. 3.2).

  Parameters: 'expand', 'depthwise' and 'project' (convolutions).

  Attributes:
    expansion: features of either half, as a multiple of C; rounded down.
    use_bias: of the convolutions.
    dtype: of the activations.
  """

  expansion: float = 2.66
  use_bias: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (B, h, w, C) to (B, h, w, C) in `dtype`."""
    c = x.shape[-1]
    hidden = int(self.expansion * c)
    u = Pointwise(2 * hidden, use_bias=self.use_bias, dtype=self.dtype, name='expand')(x)
    u = DepthwiseConv(3, use_bias=self.use_bias, dtype=self.dtype, name='depthwise')(u)
    gate, u = jnp.split(u, 2, axis=-1)
    return Pointwise(c, use_bias=self.use_bias, dtype=self.dtype, name='project')(gelu(gate) * u)


class TransformerBlock(nn.Module):
  """y = x + MDTA(N(x)); y + GDFN(N(y)).

  Attributes:
    heads: see `TransposedAttention`.
    expansion: see `GatedFeedForward`.
    use_bias: of the convolutions.
    norm: see `make_norm`.
    dtype: of the activations.
  """

  heads: int = 1
  expansion: float = 2.66
  use_bias: bool = False
  norm: str = 'layer'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (B, h, w, C) to (B, h, w, C) in `dtype`."""
    normalise = functools.partial(make_norm, self.norm, dtype=self.dtype)
    x = x.astype(self.dtype)
    x = x + TransposedAttention(self.heads, self.use_bias, self.dtype, name='attention')(normalise(name='norm1')(x))
    feed_forward = GatedFeedForward(self.expansion, self.use_bias, self.dtype, name='feed_forward')
    return x + feed_forward(normalise(name='norm2')(x))
