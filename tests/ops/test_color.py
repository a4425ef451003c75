import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.ops import color


def test_luma_of_known_colours():
  colours = jnp.array([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.25, 0.75]])
  # By hand from Y = 16 + 65.481 R + 128.553 G + 24.966 B; the weights sum to 219.
  expected = [16, 235, 81.481, 144.553, 40.966, 16 + 32.7405 + 32.13825 + 18.7245]
  y = color.rgb_to_y(colours)
  assert y.shape == (6, 1) and y.dtype == jnp.float32
  np.testing.assert_allclose(y[:, 0], expected, rtol=1e-6)


def test_luma_needs_rgb():
  with pytest.raises(ValueError, match=r'shape \(4, 4, 1\); its last axis must be 3'):
    color.rgb_to_y(jnp.zeros((4, 4, 1)))
