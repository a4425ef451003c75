"""CIE L*a*b* and the colour difference CIEDE2000.

Contract: sRGB in [0, 1] and Lab with L in [0, 100], channels last, any leading axes; arrays are computed in their own
floating-point dtype. White is D65, as sRGB defines it, seen by the 2 degree observer: the numbers of scikit-image.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

# Linear sRGB to XYZ (IEC 61966-2-1, rounded as in scikit-image), rows divided by the white point.
_XYZ_FROM_RGB = (
  (0.412453, 0.357580, 0.180423),
  (0.212671, 0.715160, 0.072169),
  (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)


def srgb_to_lab(images: jax.Array) -> jax.Array:
  """sRGB to CIE L*a*b* (CIE 15:2004).

  Args:
    images: (..., 3), gamma-encoded sRGB in [0, 1].

  Returns:
    (..., 3): L in [0, 100], a and b roughly within [-110, 110].

  Raises:
    ValueError: the last axis is not 3.
  """
  if images.shape[-1] != 3:
    raise ValueError(f'srgb_to_lab got an array of shape {images.shape}; its last axis must be 3 (sRGB)')
  r, g, b = (_linear(images[..., i]) for i in range(3))
  # Not a product with a matrix: accelerators would round its factors.
  fx, fy, fz = (_lab_curve((row[0] * r + row[1] * g + row[2] * b) / white) for row, white in zip(_XYZ_FROM_RGB, _WHITE))
  return jnp.stack([116.0 * fy - 16.0, 500.0 * (fx - fy), 200.0 * (fy - fz)], axis=-1)


def ciede2000(lab_1: jax.Array, lab_2: jax.Array) -> jax.Array:
  """CIEDE2000 colour difference, kL = kC = kH = 1 (Sharma, Wu and Dalal 2005, Color Res. Appl. 30(1)).

  Equations are numbered as in that article. The hue term of Eq. 11 comes from the cross and dot product of the two
  chroma vectors, not from a difference of angles, so that it stays exact in float32 where hues nearly agree.

  Args:
    lab_1: (..., 3) CIE L*a*b*.
    lab_2: the same shape.

  Returns:
    (...) differences, at least 0.
  """
  l_1, a_1, b_1 = (lab_1[..., i] for i in range(3))
  l_2, a_2, b_2 = (lab_2[..., i] for i in range(3))
  # Eq. 2 to 6: a is stretched near grey.
  mean_chroma = 0.5 * (_length(a_1, b_1) + _length(a_2, b_2))
  stretch = 1.5 - 0.5 * _saturation(mean_chroma)
  a_1, a_2 = stretch * a_1, stretch * a_2
  c_1, c_2 = _length(a_1, b_1), _length(a_2, b_2)

  # Eq. 8 to 11. Where a chroma is 0, cross and dot are 0, and so is the angle.
  d_l, d_c = l_2 - l_1, c_2 - c_1
  d_hue = jnp.arctan2(a_1 * b_2 - a_2 * b_1, a_1 * a_2 + b_1 * b_2)
  d_h = 2.0 * jnp.sqrt(c_1 * c_2) * jnp.sin(0.5 * d_hue)

  # Eq. 12 to 14.
  l, c = 0.5 * (l_1 + l_2), 0.5 * (c_1 + c_2)
  hue = _mean_hue(_hue(a_1, b_1), _hue(a_2, b_2), grey=c_1 * c_2 == 0)

  # Eq. 15 to 22.
  degree = math.pi / 180.0
  t = (
    1.0
    - 0.17 * jnp.cos(hue - 30.0 * degree)
    + 0.24 * jnp.cos(2.0 * hue)
    + 0.32 * jnp.cos(3.0 * hue + 6.0 * degree)
    - 0.20 * jnp.cos(4.0 * hue - 63.0 * degree)
  )
  rotation = 30.0 * degree * jnp.exp(-jnp.square((hue / degree - 275.0) / 25.0))
  l_offset = jnp.square(l - 50.0)
  d_l = d_l / (1.0 + 0.015 * l_offset / jnp.sqrt(20.0 + l_offset))
  d_c = d_c / (1.0 + 0.045 * c)
  d_h = d_h / (1.0 + 0.015 * c * t)
  twist = -2.0 * _saturation(c) * jnp.sin(2.0 * rotation) * d_c * d_h
  return jnp.sqrt(jnp.maximum(d_l * d_l + d_c * d_c + d_h * d_h + twist, 0.0))


def _linear(x: jax.Array) -> jax.Array:
  """Removes the gamma of sRGB."""
  return jnp.where(x > 0.04045, jnp.power((x + 0.055) / 1.055, 2.4), x / 12.92)


def _lab_curve(x: jax.Array) -> jax.Array:
  return jnp.where(x > 0.008856, jnp.cbrt(x), 7.787 * x + 16.0 / 116.0)


def _length(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.sqrt(a * a + b * b)


def _saturation(chroma: jax.Array) -> jax.Array:
  """sqrt(C^7 / (C^7 + 25^7)), with C / 25 as the unit: 25^7 is large for float32."""
  power = (chroma / 25.0) ** 7
  return jnp.sqrt(power / (power + 1.0))


def _hue(a: jax.Array, b: jax.Array) -> jax.Array:
  """Eq. 7: angle in [0, 2 pi)."""
  angle = jnp.arctan2(b, a)
  return jnp.where(angle < 0, angle + 2.0 * math.pi, angle)


def _mean_hue(hue_1: jax.Array, hue_2: jax.Array, *, grey: jax.Array) -> jax.Array:
  """Eq. 14: the mean on the shorter arc; the sum where a colour has no hue."""
  total = hue_1 + hue_2
  turn = jnp.where(total < 2.0 * math.pi, 2.0 * math.pi, -2.0 * math.pi)
  far = jnp.abs(hue_1 - hue_2) > math.pi
  return jnp.where(grey, total, 0.5 * jnp.where(far, total + turn, total))
