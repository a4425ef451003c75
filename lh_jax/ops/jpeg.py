"""JPEG compression artefacts, computed on the device with one quality for each image.

Contract: images are float32 RGB (B, H, W, 3) in [0, 1], of any size. The pixels go through what the baseline codec
does to them (ITU-T T.81; JFIF 1.02 colours): rounding to 8 bits, YCbCr with 4:2:0 chroma, 8x8 cosine transform,
quantisation by the standard's example tables (Annex K) scaled by quality as the Independent JPEG Group's library
does, and back, with that library's triangle filter for chroma. Entropy coding loses nothing and is left out. Rounding
is plain rounding: there is no useful gradient, and none is meant.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

# ITU-T T.81, Tables K.1 and K.2.
LUMINANCE_TABLE = np.array(
  [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
  ],
  np.float32,
)
CHROMINANCE_TABLE = np.full((8, 8), 99, np.float32)
CHROMINANCE_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


def _cosine_basis() -> np.ndarray:
  """(64, 64): the orthonormal 8x8 cosine transform of a flattened block, coefficients = basis @ block."""
  frequency, place = np.mgrid[:8, :8]
  one = np.cos((2 * place + 1) * frequency * np.pi / 16) * np.where(frequency == 0, np.sqrt(1 / 8), 1 / 2)
  return np.kron(one, one).astype(np.float32)


def quantization_table(table: np.ndarray, quality: jax.Array) -> jax.Array:
  """Scales a base table by quality, as the Independent JPEG Group's library does.

  Args:
    table: (8, 8) base table.
    quality: (B,) in 1..100; 50 gives the table itself. Fractions are allowed.

  Returns:
    (B, 8, 8) whole numbers in 1..255.
  """
  quality = jnp.clip(quality.astype(jnp.float32), 1.0, 100.0)
  percent = jnp.where(quality < 50.0, 5000.0 / quality, 200.0 - 2.0 * quality)
  # The library's percentage is a whole number, cut off.
  percent = jnp.floor(percent)[:, None, None]
  return jnp.clip(jnp.floor((jnp.asarray(table)[None] * percent + 50.0) / 100.0), 1.0, 255.0)


def _quantize(plane: jax.Array, table: jax.Array) -> jax.Array:
  """Rounds the cosine coefficients of (B, H, W) values around 0, H and W multiples of 8, to multiples of (B, 8, 8)."""
  batch, height, width = plane.shape
  blocks = plane.reshape(batch, height // 8, 8, width // 8, 8).swapaxes(2, 3).reshape(batch, -1, 64)
  basis = jnp.asarray(_cosine_basis())
  steps = table.reshape(batch, 1, 64)
  levels = jnp.round(jnp.matmul(blocks, basis.T, precision='highest') / steps)
  blocks = jnp.matmul(levels * steps, basis, precision='highest')
  return blocks.reshape(batch, height // 8, width // 8, 8, 8).swapaxes(2, 3).reshape(batch, height, width)


def _upsample(plane: jax.Array) -> jax.Array:
  """Doubles (B, H, W): each new value is 3/4 of the nearest old one and 1/4 of the next nearest, along both axes."""
  for axis in (1, 2):
    length = plane.shape[axis]
    padded = jnp.pad(plane, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode='edge')
    before = jax.lax.slice_in_dim(padded, 0, length, axis=axis)
    after = jax.lax.slice_in_dim(padded, 2, length + 2, axis=axis)
    pairs = jnp.stack([0.75 * plane + 0.25 * before, 0.75 * plane + 0.25 * after], axis=axis + 1)
    plane = pairs.reshape(tuple(2 * n if a == axis else n for a, n in enumerate(plane.shape)))
  return plane


def jpeg(images: jax.Array, quality: jax.Array) -> jax.Array:
  """Compresses and decompresses each image: baseline JPEG, standard tables, 4:2:0.

  Args:
    images: (B, H, W, 3) in [0, 1].
    quality: (B,) in 1..100, the usual scale.

  Returns:
    (B, H, W, 3), multiples of 1/255 in [0, 1].
  """
  _, height, width, _ = images.shape
  # Whole blocks of both the full and the halved planes: multiples of 16, filled by repeating the border.
  pads = ((0, 0), (0, -height % 16), (0, -width % 16), (0, 0))
  rgb = jnp.pad(jnp.round(jnp.clip(images, 0.0, 1.0) * 255.0), pads, mode='edge')
  red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
  luma = jnp.round(0.299 * red + 0.587 * green + 0.114 * blue)
  # Chroma is kept around 0 here, without the offset of 128 that makes it unsigned.
  chroma = [
    jnp.round(-0.168735892 * red - 0.331264108 * green + 0.5 * blue),
    jnp.round(0.5 * red - 0.418687589 * green - 0.081312411 * blue),
  ]
  coarse = [jnp.round(0.25 * (c[:, ::2, ::2] + c[:, 1::2, ::2] + c[:, ::2, 1::2] + c[:, 1::2, 1::2])) for c in chroma]
  luma = _quantize(luma - 128.0, quantization_table(LUMINANCE_TABLE, quality)) + 128.0
  luma = jnp.clip(jnp.round(luma), 0.0, 255.0)
  table = quantization_table(CHROMINANCE_TABLE, quality)
  blue_difference, red_difference = (_upsample(jnp.clip(jnp.round(_quantize(c, table)), -128.0, 127.0)) for c in coarse)
  rgb = jnp.stack(
    [
      luma + 1.402 * red_difference,
      luma - 0.344136286 * blue_difference - 0.714136286 * red_difference,
      luma + 1.772 * blue_difference,
    ],
    axis=-1,
  )
  return jnp.clip(jnp.round(rgb[:, :height, :width]), 0.0, 255.0) / 255.0
