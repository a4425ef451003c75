"""Plain vision transformers: DINOv2 (Oquab et al., arXiv 2304.07193), MAE (He et al., arXiv 2111.06377), CLIP (Radford
et al., arXiv 2103.00020) and SigLIP (Zhai et al., arXiv 2303.15343), foundation models of L_Inv (Eq. 4).

Images are (B, H, W, 3), normalised by the statistics of the model, H and W multiples of the patch size; the result is
the map of final-norm patch tokens (B, H/patch, W/patch, dim) in the dtype of parameters and images, float32 in
training.

Pre-norm blocks: x += Attention(norm1(x)); x += MLP(norm2(x)). What differs is a field of `VisionTransformer`:

| | DINOv2 | MAE | CLIP | SigLIP |
|---|---|---|---|---|
| class token | yes | yes | yes | no |
| LayerScale on both branches | yes | no | no | no |
| bias of the patch embedding | yes | yes | no | yes |
| norm before the first block | no | no | yes | no |
| GELU | erf | erf | x sigmoid(1.702 x) | tanh |
| epsilon of the norms | 1e-6 | 1e-6 | 1e-5 | 1e-6 |

A class token comes first, register tokens ("Vision Transformers Need Registers", arXiv 2309.16588), where the model has
them, right after it. Registers get no positional embedding; both are dropped from the result. The final norm of CLIP is
its `ln_post`, which CLIP itself applies to the class token only; its projection, SigLIP's attention pooling and MAE's
decoder and masking are left out. MAE's epsilon is that of its official code; the port in transformers has 1e-12.

The position table is stored for a square grid and resized to the grid of the image. DINOv2, by the rule of the official
code: without registers, bicubic (a = -0.75, no anti-aliasing) with source coordinate (i + 0.5) / s - 0.5 and
s = (n + 0.1) / 37; with registers, anti-aliased bicubic (a = -0.5) and s = n / 37. The port in transformers uses
s = n / 37 in both cases, which gives other features; tests/parity shows the difference. MAE, CLIP and SigLIP were
published for one grid only: here the rule of transformers' `interpolate_pos_encoding`, bicubic (a = -0.75, no
anti-aliasing) with s = n / stored. The table is used as it is when the grid is the stored one.
"""

from __future__ import annotations

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from lh_jax.models import layers
from lh_jax.models import pointwise
from lh_jax.ops import resize

POSITION_OFFSET = 0.1  # of DINOv2 without registers

ACTIVATIONS = {
  'erf': pointwise.gelu,
  'tanh': lambda x: nn.gelu(x, approximate=True),
  'quick': lambda x: x * nn.sigmoid(1.702 * x),
}


_Projection = functools.partial(pointwise.ScaledPointwise, kernel_size=())


class VisionTransformer(nn.Module):
  """Encoder of patch tokens.

  Attributes:
    dim: token width, C_f.
    depth: number of blocks.
    heads: attention heads.
    patch: side of a patch in pixels.
    grid: side of the stored position table in tokens.
    registers: register tokens; they also select the anti-aliased resizing of the position table.
    swiglu: gated feed-forward layer (DINOv2's giant) instead of GELU.
    class_token: whether there is one.
    layer_scale: whether both branches of a block are scaled.
    patch_bias: whether the patch embedding has a bias.
    first_norm: whether tokens are normalised before the first block.
    activation: key of ACTIVATIONS.
    hidden: width inside the feed-forward layer; None is 4 dim.
    epsilon: of the norms.
    position_offset: see the module's docstring; without registers only.
  """

  dim: int
  depth: int
  heads: int
  patch: int = 14
  grid: int = 37
  registers: int = 0
  swiglu: bool = False
  class_token: bool = True
  layer_scale: bool = True
  patch_bias: bool = True
  first_norm: bool = False
  activation: str = 'erf'
  hidden: int | None = None
  epsilon: float = 1e-6
  position_offset: float = POSITION_OFFSET

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
    batch = images.shape[0]
    shape = grid_of(images, self.patch)
    token_init = nn.initializers.normal(0.02)
    window = (self.patch, self.patch)
    tokens = nn.Conv(self.dim, window, strides=window, padding='VALID', use_bias=self.patch_bias, name='patch_embed')(
      images
    )

    classes = int(self.class_token)
    table = self.param('pos_embed', token_init, (1, classes + self.grid**2, self.dim))
    positions = resize_positions(
      table[0, classes:].reshape(self.grid, self.grid, self.dim),
      shape,
      antialias=self.registers > 0,
      offset=0.0 if self.registers else self.position_offset,
    )
    leading = []
    if self.class_token:
      leading.append(self.param('cls_token', token_init, (1, 1, self.dim)) + table[:, :1])
    if self.registers:
      leading.append(self.param('register_tokens', token_init, (1, self.registers, self.dim)))
    leading = [jnp.broadcast_to(part, (batch, *part.shape[1:])) for part in leading]
    x = jnp.concatenate([*leading, (tokens + positions[None]).reshape(batch, -1, self.dim)], axis=1)

    if self.first_norm:
      x = layers.LayerNorm2d(epsilon=self.epsilon, name='norm_pre')(x)
    for i in range(self.depth):
      x = Block(
        heads=self.heads,
        swiglu=self.swiglu,
        layer_scale=self.layer_scale,
        activation=self.activation,
        hidden=self.hidden,
        epsilon=self.epsilon,
        name=f'block_{i}',
      )(x)
    x = layers.LayerNorm2d(epsilon=self.epsilon, name='norm')(x)
    return x[:, classes + self.registers :].reshape(batch, *shape, self.dim)


class Block(nn.Module):
  """Pre-norm transformer block; the fields are those of `VisionTransformer`."""

  heads: int
  swiglu: bool = False
  layer_scale: bool = True
  activation: str = 'erf'
  hidden: int | None = None
  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    mlp = SwiGLU(name='mlp') if self.swiglu else MLP(activation=self.activation, hidden=self.hidden, name='mlp')
    first, second = (
      self.param(name, nn.initializers.ones, (x.shape[-1],)) if self.layer_scale else None for name in ('ls1', 'ls2')
    )
    x = x + Attention(heads=self.heads, name='attn')(layers.LayerNorm2d(epsilon=self.epsilon, name='norm1')(x), first)
    return x + mlp(layers.LayerNorm2d(epsilon=self.epsilon, name='norm2')(x), second)


class Attention(nn.Module):
  """Multi-head self-attention, softmax(Q K^T / sqrt(d)) V, over all tokens, times a scale (dim,) or None."""

  heads: int

  @nn.compact
  def __call__(self, x: jax.Array, scale: jax.Array | None) -> jax.Array:
    batch, count, dim = x.shape
    qkv = pointwise.Dense(3 * dim, name='qkv')(x).reshape(batch, count, 3, self.heads, dim // self.heads)
    y = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
    return _Projection(dim, name='proj')(y.reshape(batch, count, dim), scale)


class MLP(nn.Module):
  """Two layers with a GELU, four times as wide inside where `hidden` does not say otherwise; times a scale or None."""

  activation: str = 'erf'
  hidden: int | None = None

  @nn.compact
  def __call__(self, x: jax.Array, scale: jax.Array | None = None) -> jax.Array:
    dim = x.shape[-1]
    x = ACTIVATIONS[self.activation](pointwise.Dense(self.hidden or 4 * dim, name='fc1')(x))
    return _Projection(dim, name='fc2')(x, scale)


class SwiGLU(nn.Module):
  """Gated feed-forward layer, w3(silu(a) * b) with [a, b] = w12(x) (Shazeer, arXiv 2002.05202); times a scale or None."""

  @nn.compact
  def __call__(self, x: jax.Array, scale: jax.Array | None) -> jax.Array:
    dim = x.shape[-1]
    # Two thirds of the plain MLP's width keep its parameter count; the official code rounds up to a multiple of 8.
    hidden = (4 * dim * 2 // 3 + 7) // 8 * 8
    a, b = jnp.split(pointwise.Dense(2 * hidden, name='w12')(x), 2, axis=-1)
    return _Projection(dim, name='w3')(nn.silu(a) * b, scale)


def grid_of(images: jax.Array, patch: int) -> tuple[int, int]:
  """Token grid of a network's input.

  Args:
    images: (B, H, W, 3).
    patch: side of a patch in pixels.

  Returns:
    (H / patch, W / patch).

  Raises:
    ValueError: the sides are no positive multiples of the patch.
  """
  height, width = images.shape[1:3]
  if height % patch or width % patch or not height or not width:
    raise ValueError(
      f'a vision transformer with {patch}-pixel patches needs sides that are multiples of '
      f'{patch}, got {height}x{width}; give it an input_size.'
    )
  return height // patch, width // patch


def resize_positions(
  table: jax.Array, shape: tuple[int, int], *, antialias: bool = False, offset: float = 0.0
) -> jax.Array:
  """Resizes a square table of positional embeddings bicubically (see the module's docstring for who does it how).

  Args:
    table: (n, n, dim) stored embeddings.
    shape: (h, w) token grid wanted.
    antialias: widen the kernel when shrinking, and take a = -0.5 instead of -0.75.
    offset: what is added to h and w in the scales h / n and w / n.

  Returns:
    (h, w, dim) embeddings in the table's dtype; the table itself when (h, w) = (n, n).
  """
  stored = table.shape[0]
  if shape == (stored, stored):
    return table
  rows, columns = (
    jnp.asarray(
      resize.interpolation_matrix(stored, n, kind='cubic', scale=(n + offset) / stored, antialias=antialias),
      jnp.float32,
    )
    for n in shape
  )
  # Full precision: matrix units round the operands of a default product to 8 or 10 bits.
  wide = jnp.einsum('hi,wj,ijd->hwd', rows, columns, table.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
  return wide.astype(table.dtype)
