"""Restorers R_theta: modules (z, *, train) -> z + net(z) on normalised latents (B, h, w, C_z), by name.

The defaults of a module's fields are its latent preset; the presets are of about one budget (0.6 to 0.7 M parameters;
Table 5c). The same modules on pixels, in the sizes that were published, are `pixel.NETWORKS`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn

from lh_jax.models.restorers.nafnet import NAFNet
from lh_jax.models.restorers.restormer import Restormer
from lh_jax.models.restorers.sfhformer import SFHformer

RESTORERS = {'sfhformer': SFHformer, 'nafnet': NAFNet, 'restormer': Restormer}


def build(name: str, **options: Any) -> nn.Module:
  """Builds a restorer.

  Args:
    name: a key of `RESTORERS`.
    **options: fields of that module; None keeps the preset's value; lists become tuples, so that the module is
      hashable.

  Returns:
    A linen module, called as `module.apply(variables, z, train=...)` with z (B, h, w, C_z) float32 of any height and
    width. Its collections are 'params' and, with batch norms, 'batch_stats'.

  Raises:
    ValueError: unknown name.
    TypeError: an option that the module does not have.
  """
  if name not in RESTORERS:
    raise ValueError(f'unknown restorer {name!r}; known restorers: {", ".join(sorted(RESTORERS))}')
  options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items() if v is not None}
  known = [field.name for field in dataclasses.fields(RESTORERS[name]) if field.name not in ('parent', 'name')]
  if unknown := sorted(options.keys() - set(known)):
    raise TypeError(f'restorer {name!r} has no option {", ".join(unknown)}; its options are {", ".join(known)}')
  return RESTORERS[name](**options)
