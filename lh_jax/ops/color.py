"""Colour transforms. Contract: RGB in [0, 1], channels last; luma on the 0..255 scale, filling 16 to 235."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def rgb_to_y(images: jax.Array) -> jax.Array:
  """Luma of ITU-R BT.601, studio range, as the restoration metrics use it: Y = 16 + 65.481 R + 128.553 G + 24.966 B.

  Not rounded. Black is 16, white is 235.

  Args:
    images: (..., 3), RGB in [0, 1].

  Returns:
    (..., 1) float32 in [16, 235], on the scale whose peak is 255.

  Raises:
    ValueError: the last axis is not 3.
  """
  if images.shape[-1] != 3:
    raise ValueError(f'rgb_to_y got an array of shape {images.shape}; its last axis must be 3 (RGB)')
  x = images.astype(jnp.float32)
  # Not a product with a matrix: accelerators would round its factors.
  return 16.0 + 65.481 * x[..., 0:1] + 128.553 * x[..., 1:2] + 24.966 * x[..., 2:3]
