"""What training carries from step to step, and where its randomness comes from.

A state holds what is trained, keyed by network. What is frozen (the foundation model; the VAE in stage 2) is a second,
undonated argument of every step. Random keys are no part of it: they are a function of (seed, stream, step), so a
resumed run draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

from typing import Any
import zlib

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class TrainState:
  """One stage's training state.

  Attributes:
    step: () int32, the number of finished steps of this stage.
    params: {network: parameters}.
    opt: {optimizer: its state}.
    ema: {network: exponential moving average of its parameters}, for networks that keep one.
    stats: {name: statistics} that are updated without gradients: batch norm, spectral norm, latent moments.
  """

  step: jax.Array
  params: dict[str, Any]
  opt: dict[str, Any]
  ema: dict[str, Any]
  stats: dict[str, Any]


def stream_key(seed: int, stream: str, step: int | jax.Array) -> jax.Array:
  """Returns the random key of one named stream at one step; `step` may be traced."""
  key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()))
  return jax.random.fold_in(key, step)


def update_ema(ema: Any, params: Any, *, decay: float, step: jax.Array) -> Any:
  """Moves `ema` towards `params`.

  The decay is warmed up as min(decay, (1 + step) / (10 + step)), so that a short run does not average over its initial
  values.
  """
  decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
  return jax.tree.map(lambda average, value: average + (1.0 - decay) * (value - average), ema, params)
