"""Light and its encoding: between display values and linear light.

Contract: images are RGB of any leading shape, floats in [0, 1]. Display values follow the sRGB curve (IEC 61966-2-1);
linear light is proportional to the energy that fell on the sensor, the domain in which blur and exposure act.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def srgb_to_linear(image: jax.Array) -> jax.Array:
  """Decodes display values to linear light (IEC 61966-2-1).

  Args:
    image: display values in [0, 1].

  Returns:
    Linear light in [0, 1], same shape.
  """
  return jnp.where(image <= 0.04045, image / 12.92, ((jnp.maximum(image, 0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: jax.Array) -> jax.Array:
  """Encodes linear light to display values, the inverse of `srgb_to_linear`.

  Args:
    light: linear light in [0, 1].

  Returns:
    Display values in [0, 1], same shape.
  """
  return jnp.where(light <= 0.0031308, 12.92 * light, 1.055 * jnp.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)
