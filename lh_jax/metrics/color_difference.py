"""Mean CIEDE2000 of an image pair: the colour error as a viewer sees it, which luma metrics hide.

Contract: uint8 sRGB in, one float out. 1 is about the smallest difference that is noticed side by side.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from lh_jax.metrics import images
from lh_jax.ops import cielab


def ciede2000(a: np.ndarray, b: np.ndarray) -> float:
  """CIEDE2000 (Sharma et al. 2005), averaged over pixels.

  Equal to the mean of scikit-image's `deltaE_ciede2000(rgb2lab(a), rgb2lab(b))` to 1e-4.

  Args:
    a: (H, W, 3) uint8 sRGB.
    b: the same shape and dtype.

  Returns:
    The mean colour difference, at least 0; 0 where the images are equal.

  Raises:
    ValueError: the images are not both uint8 (H, W, 3), or their shapes differ.
  """
  images.check_pair('ciede2000', a, b)
  return float(np.mean(np.asarray(_row_means(a, b), np.float64)))


@jax.jit
def _row_means(a: jax.Array, b: jax.Array) -> jax.Array:
  """(H, W, 3) uint8 twice to (H,) float32. Row by row, a sum over millions of pixels stays exact."""
  lab_a, lab_b = (cielab.srgb_to_lab(image.astype(jnp.float32) / 255.0) for image in (a, b))
  return jnp.mean(cielab.ciede2000(lab_a, lab_b), axis=1)
