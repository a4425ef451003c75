"""Vision transformer of DINOv2 (Oquab et al., arXiv 2304.07193), the foundation model of L_Inv (Eq. 4).

Images are (B, H, W, 3) float32, normalised with the ImageNet mean and deviation, H and W multiples of the patch size;
the result is the map of final-norm patch tokens (B, H/patch, W/patch, dim) float32. Everything runs in float32.

Pre-norm blocks with LayerScale: x += ls1 * Attention(norm1(x)); x += ls2 * MLP(norm2(x)). A class token comes first,
register tokens ("Vision Transformers Need Registers", arXiv 2309.16588), where the model has them, right after it.
They get no positional embedding and are dropped from the result.

The position table is stored for a square grid (37 x 37 tokens, 518 pixels) and resized to the grid of the image by the
rule of the official code: without registers, bicubic (a = -0.75, no anti-aliasing) with source coordinate
(i + 0.5) / s - 0.5 and s = (n + 0.1) / 37; with registers, anti-aliased bicubic (a = -0.5) and s = n / 37. The table is
used as it is when the grid is the stored one. The port in transformers uses s = n / 37 in both cases, which gives other
features; tests/parity shows the difference.
"""

from __future__ import annotations

from flax import linen as nn
import jax
import jax.numpy as jnp

from lh_jax.ops import resize

LAYER_NORM_EPSILON = 1e-6
POSITION_OFFSET = 0.1


class VisionTransformer(nn.Module):
  """DINOv2 encoder.

  Attributes:
    dim: token width, C_f.
    depth: number of blocks.
    heads: attention heads.
    patch: side of a patch in pixels.
    grid: side of the stored position table in tokens.
    registers: register tokens; they also select the anti-aliased resizing of the position table.
    swiglu: gated feed-forward layer (the giant model) instead of GELU.
  """

  dim: int
  depth: int
  heads: int
  patch: int = 14
  grid: int = 37
  registers: int = 0
  swiglu: bool = False

  @property
  def channels(self) -> int:
    """Channels of the token map."""
    return self.dim

  @property
  def stride(self) -> int:
    """Pixels of network input per token, along one side."""
    return self.patch

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    batch, height, width, _ = images.shape
    if height % self.patch or width % self.patch or not height or not width:
      raise ValueError(
        f'a vision transformer with {self.patch}-pixel patches needs sides that are multiples of '
        f'{self.patch}, got {height}x{width}; give it an input_size.'
      )
    shape = (height // self.patch, width // self.patch)
    token_init = nn.initializers.normal(0.02)

    window = (self.patch, self.patch)
    tokens = nn.Conv(self.dim, window, strides=window, padding='VALID', name='patch_embed')(images)
    class_token = self.param('cls_token', token_init, (1, 1, self.dim))
    table = self.param('pos_embed', token_init, (1, 1 + self.grid**2, self.dim))
    positions = resize_positions(
      table[0, 1:].reshape(self.grid, self.grid, self.dim), shape, antialias=self.registers > 0
    )

    leading = [class_token + table[:, :1]]
    if self.registers:
      leading.append(self.param('register_tokens', token_init, (1, self.registers, self.dim)))
    leading = jnp.concatenate(leading, axis=1)
    tokens = (tokens + positions[None]).reshape(batch, -1, self.dim)
    x = jnp.concatenate([jnp.broadcast_to(leading, (batch, *leading.shape[1:])), tokens], axis=1)

    for i in range(self.depth):
      x = Block(heads=self.heads, swiglu=self.swiglu, name=f'block_{i}')(x)
    x = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name='norm')(x)
    return x[:, leading.shape[1] :].reshape(batch, *shape, self.dim)


class Block(nn.Module):
  """Pre-norm transformer block with LayerScale on both branches."""

  heads: int
  swiglu: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dim = x.shape[-1]
    scale1 = self.param('ls1', nn.initializers.ones, (dim,))
    scale2 = self.param('ls2', nn.initializers.ones, (dim,))
    mlp = SwiGLU(name='mlp') if self.swiglu else MLP(name='mlp')
    y = Attention(heads=self.heads, name='attn')(nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name='norm1')(x))
    x = x + scale1[None, None] * y
    y = mlp(nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name='norm2')(x))
    return x + scale2[None, None] * y


class Attention(nn.Module):
  """Multi-head self-attention, softmax(Q K^T / sqrt(d)) V, over all tokens."""

  heads: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    batch, count, dim = x.shape
    qkv = nn.Dense(3 * dim, name='qkv')(x).reshape(batch, count, 3, self.heads, dim // self.heads)
    y = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
    return nn.Dense(dim, name='proj')(y.reshape(batch, count, dim))


class MLP(nn.Module):
  """Two layers with the exact (erf) GELU, four times as wide inside."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dim = x.shape[-1]
    return nn.Dense(dim, name='fc2')(nn.gelu(nn.Dense(4 * dim, name='fc1')(x), approximate=False))


class SwiGLU(nn.Module):
  """Gated feed-forward layer, w3(silu(a) * b) with [a, b] = w12(x) (Shazeer, arXiv 2002.05202)."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dim = x.shape[-1]
    # Two thirds of the plain MLP's width keep its parameter count; the official code rounds up to a multiple of 8.
    hidden = (4 * dim * 2 // 3 + 7) // 8 * 8
    a, b = jnp.split(nn.Dense(2 * hidden, name='w12')(x), 2, axis=-1)
    return nn.Dense(dim, name='w3')(nn.silu(a) * b)


def resize_positions(table: jax.Array, shape: tuple[int, int], *, antialias: bool) -> jax.Array:
  """Resizes a square table of positional embeddings by the official DINOv2 rule (see the module's docstring).

  Args:
    table: (n, n, dim) stored embeddings.
    shape: (h, w) token grid wanted.
    antialias: False for the models without registers, True for those with.

  Returns:
    (h, w, dim) embeddings; the table itself when (h, w) = (n, n).
  """
  stored = table.shape[0]
  if shape == (stored, stored):
    return table
  offset = 0.0 if antialias else POSITION_OFFSET
  rows, columns = (
    jnp.asarray(
      resize.interpolation_matrix(stored, n, kind='cubic', scale=(n + offset) / stored, antialias=antialias),
      jnp.float32,
    )
    for n in shape
  )
  # Full precision: matrix units round the operands of a default product to 8 or 10 bits.
  return jnp.einsum('hi,wj,ijd->hwd', rows, columns, table, precision=jax.lax.Precision.HIGHEST)
