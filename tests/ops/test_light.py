"""The sRGB curve: known points, and the two directions undo each other."""

import jax.numpy as jnp
import numpy as np

from lh_jax.ops import light


def test_known_points():
  # IEC 61966-2-1: 0.5 decodes to ((0.5 + 0.055) / 1.055)^2.4; below 0.04045 the curve is a line of slope 1/12.92.
  values = jnp.array([0.0, 0.02, 0.5, 1.0])
  expected = [0.0, 0.02 / 12.92, (0.555 / 1.055) ** 2.4, 1.0]
  np.testing.assert_allclose(light.srgb_to_linear(values), expected, atol=1e-6)


def test_inverse():
  values = jnp.linspace(0.0, 1.0, 1001)
  np.testing.assert_allclose(light.linear_to_srgb(light.srgb_to_linear(values)), values, atol=2e-6)
