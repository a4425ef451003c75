"""What every restorer does at its borders: it checks its channels, and pads its input to the sizes that it can halve."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lh_jax.ops.resize import pad_edge

PADDINGS = ('edge', 'reflect', 'zero')


def pad_to_multiple(x: jax.Array, multiple: int, padding: str) -> jax.Array:
  """Pads at the bottom and at the right.

  Args:
    x: (B, h, w, C).
    multiple: of which both sides of the result are, the smallest possible.
    padding: 'edge', which suits latents; 'reflect' or 'zero', as published pixel-space networks are run.

  Returns:
    (B, H, W, C) in the dtype of x.

  Raises:
    ValueError: unknown padding.
  """
  if padding not in PADDINGS:
    raise ValueError(f'unknown padding of a restorer, {padding!r}; known paddings: {", ".join(PADDINGS)}')
  h, w = x.shape[1:3]
  widths = ((0, 0), (0, -h % multiple), (0, -w % multiple), (0, 0))
  if padding == 'edge' or not any(after for _, after in widths):
    return pad_edge(x, widths)
  return jnp.pad(x, widths, mode='constant' if padding == 'zero' else 'reflect')


def check_channels(name: str, x: jax.Array, channels: int) -> None:
  """Raises a ValueError where the last axis of x is not `channels` long; `name` is the network's."""
  if x.shape[-1] != channels:
    raise ValueError(
      f'{name} got latents of shape {x.shape}; their last axis must be channels={channels} (vae.latent_channels)'
    )
