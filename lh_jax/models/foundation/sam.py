"""Image encoder of SAM (Kirillov et al., arXiv 2304.02643), a ViTDet (Li et al., arXiv 2203.16527), for L_Inv (Eq. 4).

Images are (B, H, W, 3), normalised by SAM's statistics, H and W multiples of 16; the result is the neck's map
(B, H/16, W/16, 256), in the dtype of parameters and images, float32 in training.

Blocks attend within windows of 14 x 14 tokens, the map padded at the bottom and right with zeros that take part as
tokens, as the official code has it; a few attend to the whole map. Attention adds relative positions, decomposed into
rows and columns: softmax(q k / sqrt(d) + q . R_h[i - i'] + q . R_w[j - j']) v. There is no class token and no final
norm: the neck is 1x1 convolution, norm, 3x3 convolution, norm.

SAM is published for 1024 pixels, 64 x 64 tokens. For other grids the table of absolute positions is resized bicubically
(a = -0.75, no anti-aliasing), as ViTDet does, and those of relative positions linearly, as SAM's own code does.
"""

from __future__ import annotations

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lh_jax.models import layers
from lh_jax.models import pointwise
from lh_jax.models.foundation import vit
from lh_jax.ops import resize

_EPSILON = 1e-6


class SamEncoder(nn.Module):
  """ViTDet with a neck.

  Attributes:
    dim: token width.
    depth: number of blocks.
    heads: attention heads.
    global_blocks: numbers of the blocks that attend to the whole map.
    patch: side of a patch in pixels.
    grid: side of the stored table of absolute positions in tokens.
    window: side of the other blocks' windows in tokens.
    channels: of the result, C_f.
  """

  dim: int
  depth: int
  heads: int
  global_blocks: tuple[int, ...]
  patch: int = 16
  grid: int = 64
  window: int = 14
  channels: int = 256

  @property
  def stride(self) -> int:
    """Pixels of network input per token, along one side."""
    return self.patch

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    shape = vit.grid_of(images, self.patch)
    window = (self.patch, self.patch)
    x = nn.Conv(self.dim, window, strides=window, padding='VALID', name='patch_embed')(images)
    table = self.param('pos_embed', nn.initializers.normal(0.02), (1, self.grid, self.grid, self.dim))
    x = x + vit.resize_positions(table[0], shape)[None]
    for i in range(self.depth):
      is_global = i in self.global_blocks
      x = Block(
        heads=self.heads,
        window=0 if is_global else self.window,
        stored=self.grid if is_global else self.window,
        name=f'block_{i}',
      )(x)
    return Neck(channels=self.channels, name='neck')(x)


class Block(nn.Module):
  """Pre-norm transformer block on a map.

  Attributes:
    heads: attention heads.
    window: side of the windows in tokens; 0 attends to the whole map.
    stored: side of the map that the tables of relative positions are stored for.
  """

  heads: int
  window: int
  stored: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    y = layers.LayerNorm2d(epsilon=_EPSILON, name='norm1')(x)
    attention = Attention(heads=self.heads, stored=self.stored, name='attn')
    if self.window:
      y = from_windows(attention(to_windows(y, self.window)), y.shape, self.window)
    else:
      y = attention(y)
    x = x + y
    return x + vit.MLP(name='mlp')(layers.LayerNorm2d(epsilon=_EPSILON, name='norm2')(x))


class Attention(nn.Module):
  """Multi-head self-attention with decomposed relative positions, over a map (B, h, w, dim).

  Attributes:
    heads: attention heads.
    stored: side of the map that the tables of relative positions are stored for.
  """

  heads: int
  stored: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    batch, height, width, dim = x.shape
    size = dim // self.heads
    qkv = pointwise.Dense(3 * dim, name='qkv')(x).reshape(batch, height * width, 3, self.heads, size)
    query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    rows, columns = (
      relative_positions(self.param(name, nn.initializers.zeros, (2 * self.stored - 1, size)), n)
      for name, n in (('rel_pos_h', height), ('rel_pos_w', width))
    )
    # The position terms use the query as it is, without the 1 / sqrt(d).
    grid = query.reshape(batch, height, width, self.heads, size)
    along_rows = jnp.einsum('bhwnc,hkc->bnhwk', grid, rows)
    along_columns = jnp.einsum('bhwnc,wkc->bnhwk', grid, columns)
    bias = along_rows[..., :, None] + along_columns[..., None, :]
    bias = bias.reshape(batch, self.heads, height * width, height * width)
    y = jax.nn.dot_product_attention(query, key, value, bias=bias)
    return pointwise.Dense(dim, name='proj')(y.reshape(batch, height, width, dim))


class Neck(nn.Module):
  """1x1 convolution, norm, 3x3 convolution, norm; convolutions without bias."""

  channels: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.Conv(self.channels, (1, 1), use_bias=False, name='conv1')(x)
    x = layers.LayerNorm2d(epsilon=_EPSILON, name='norm1')(x)
    x = nn.Conv(self.channels, (3, 3), padding=1, use_bias=False, name='conv2')(x)
    return layers.LayerNorm2d(epsilon=_EPSILON, name='norm2')(x)


def relative_positions(table: jax.Array, n: int) -> jax.Array:
  """Relative positions between the n tokens along one axis of a map.

  Args:
    table: (2 m - 1, d), the embedding of every difference -(m - 1) to m - 1 on a map of the stored side m; resized
      linearly where n is another side.
    n: tokens along the axis.

  Returns:
    (n, n, d): of query i and key j, the embedding of i - j.
  """
  length = 2 * n - 1
  if table.shape[0] != length:
    matrix = jnp.asarray(resize.interpolation_matrix(table.shape[0], length, kind='linear'), jnp.float32)
    wide = jnp.matmul(matrix, table.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    table = wide.astype(table.dtype)
  difference = np.arange(n)[:, None] - np.arange(n)[None, :]
  return table[difference + n - 1]


def to_windows(x: jax.Array, window: int) -> jax.Array:
  """Cuts a map into windows, padded with zeros at the bottom and right.

  Args:
    x: (B, H, W, C).
    window: side of a window.

  Returns:
    (B * rows * columns, window, window, C), row by row.
  """
  batch, height, width, channels = x.shape
  rows, columns = -(-height // window), -(-width // window)
  x = jnp.pad(x, ((0, 0), (0, rows * window - height), (0, columns * window - width), (0, 0)))
  x = x.reshape(batch, rows, window, columns, window, channels).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(-1, window, window, channels)


def from_windows(x: jax.Array, shape: tuple[int, ...], window: int) -> jax.Array:
  """Inverse of `to_windows`.

  Args:
    x: (B * rows * columns, window, window, C).
    shape: (B, H, W, C) of the map.
    window: side of a window.

  Returns:
    (B, H, W, C), without the padding.
  """
  batch, height, width, channels = shape
  rows, columns = -(-height // window), -(-width // window)
  x = x.reshape(batch, rows, columns, window, window, channels).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(batch, rows * window, columns * window, channels)[:, :height, :width]
