"""Latent restorers R_theta: modules (z, *, train) -> z + net(z) on normalised latents (B, h, w, C_z), by name."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from lh_jax.models.restorers.sfhformer import SFHformer

RESTORERS = {'sfhformer': SFHformer}


def build(name: str, **options: Any) -> nn.Module:
  """Builds a restorer.

  Args:
    name: a key of `RESTORERS`.
    **options: fields of that module; lists become tuples, so that the module is hashable.

  Returns:
    A linen module, called as `module.apply(variables, z, train=...)` with z (B, h, w, C_z) float32 of any height and
    width. Its collections are 'params' and, with batch norms, 'batch_stats'.

  Raises:
    ValueError: unknown name.
    TypeError: an option that the module does not have.
  """
  if name not in RESTORERS:
    raise ValueError(f'unknown restorer {name!r}; known restorers: {", ".join(sorted(RESTORERS))}')
  return RESTORERS[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})
