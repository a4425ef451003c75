"""Moiré: a screen photographed by a camera, two grids that beat against each other.

Contract: one float32 RGB image (H, W, 3) in [0, 1], display values; the key decides how the camera stands before the
screen, the severity how strongly the grids show: 0 leaves the image, 1 is the worst. Sizes are pixels of the photograph
at full resolution. The geometry is that of a frame of `FRAME` pixels; a smaller image is a piece of it, from a place
that the key decides, so that crops meet the same stripes as whole images.

The chain is that of Liu, Shu and Wu ("Demoireing of Camera-Captured Screen Images Using Deep Convolutional Neural
Network", arXiv:1804.03809): red, green and blue subpixels of a liquid crystal display, a projective view, the radial
distortion of the lens, its blur, the Bayer mosaic and its interpolation. Here only the light of the grid goes through
the chain, as a gain on the image, in linear light: the picture stays where it is and as sharp as it was, as in the
aligned pairs of UHDM (Yu et al., ECCV 2022).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from lh_jax.ops.light import linear_to_srgb
from lh_jax.ops.light import srgb_to_linear

FRAME = (2160, 3840)  # height and width of the photograph that the geometry is given for

# Screen pixels to a photosite. Beats are slow and wide where this is near 1/2, as the Bayer mosaic repeats every two.
_PITCH = 0.5
_PITCH_RANGE = 0.03  # relative
_TURN = (np.deg2rad(1.0), np.deg2rad(5.0))  # angle between the two grids, to either side
_TILT = 0.02  # largest relative change of the pitch from the centre of the frame to its border, on either axis
_DISTORTION = 0.03  # largest relative change of the radius at the corner of the frame
_BLUR = (0.42, 0.58)  # standard deviation of lens and photosite together, photosites
_SUBPIXEL = (0.85, 0.28)  # lit part of a screen pixel, down and across; a third across belongs to each colour
_HARMONICS = 2  # the blur leaves less than a thousandth of the third
_STOPS = (0.15, 0.40)  # exposure is reduced by at severity 1, so that the bright stripes do not all clip


def _screen_places(key: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Where on the screen each photosite looks, in screen pixels: down, across, (height, width) each; and the pitch."""
  keys = jax.random.split(key, 7)
  size = np.array([height, width], np.float32)
  frame = np.maximum(size, np.array(FRAME, np.float32))
  centre = 0.5 * (frame - size) * jax.random.uniform(keys[0], (2,), minval=-1.0)
  # Distances from the optical axis over half the diagonal of the frame.
  half_diagonal = 0.5 * float(np.hypot(*frame))
  y, x = (jnp.arange(n, dtype=jnp.float32) - 0.5 * (n - 1) + centre[axis] for axis, n in enumerate((height, width)))
  y, x = y[:, None] / half_diagonal, x[None] / half_diagonal
  lens = 1.0 + jax.random.uniform(keys[1], minval=-1.0) * _DISTORTION * (y**2 + x**2)
  tilt = _TILT * jax.random.uniform(keys[2], (2,), minval=-1.0)
  pitch = _PITCH * (1.0 + _PITCH_RANGE * jax.random.uniform(keys[3], minval=-1.0))
  scale = pitch * half_diagonal * lens / (1.0 + tilt[0] * y + tilt[1] * x)
  turn = jax.random.uniform(keys[4], minval=_TURN[0], maxval=_TURN[1]) * jax.random.rademacher(keys[5], (), jnp.float32)
  start = jax.random.uniform(keys[6], (2,))
  down = scale * (jnp.cos(turn) * y + jnp.sin(turn) * x) + start[0]
  across = scale * (jnp.cos(turn) * x - jnp.sin(turn) * y) + start[1]
  return down, across, pitch


def grating(place: jax.Array, lit: float, pitch: jax.Array, blur: jax.Array) -> jax.Array:
  """Light of a row of bars, one to a screen pixel, seen through a Gaussian blur: a Fourier series of mean 1.

  Args:
    place: screen pixels; 0 is the middle of a bar.
    lit: width of a bar, screen pixels.
    pitch: screen pixels to a photosite.
    blur: standard deviation, photosites.

  Returns:
    The light, of the shape of `place`; the cut series may fall a little below 0.
  """
  first = jnp.cos(2.0 * np.pi * place)
  total, lower, wave = 1.0, 1.0, first
  for order in range(1, _HARMONICS + 1):
    seen = jnp.exp(-2.0 * (np.pi * blur * order * pitch) ** 2)
    total = total + 2.0 * np.sinc(order * lit) * seen * wave
    lower, wave = wave, 2.0 * first * wave - lower  # cos((k + 1) x) = 2 cos(x) cos(k x) - cos((k - 1) x)
  return total


def screen_gain(key: jax.Array, height: int, width: int) -> jax.Array:
  """What the camera makes of an evenly white screen: the moiré alone.

  Args:
    key: decides geometry and blur.
    height: rows.
    width: columns.

  Returns:
    (height, width, 3) in linear light, not negative, of mean 1 over many stripes.
  """
  place_key, blur_key = jax.random.split(key)
  # One photosite more on each side, for the interpolation.
  down, across, pitch = _screen_places(place_key, height + 2, width + 2)
  blur = jax.random.uniform(blur_key, minval=_BLUR[0], maxval=_BLUR[1])
  rows = grating(down, _SUBPIXEL[0], pitch, blur)
  odd_row, odd_column = (np.arange(height + 2) % 2 == 1)[:, None], (np.arange(width + 2) % 2 == 1)[None]
  # The Bayer mosaic RGGB; every filter sees the light of its own subpixels only, a third of a pixel apart.
  sites = (~odd_row & ~odd_column, odd_row ^ odd_column, odd_row & odd_column)
  colours = []
  for place, site in enumerate(sites):
    light = rows * grating(across - (place - 1) / 3.0, _SUBPIXEL[1], pitch, blur)
    raw = jnp.where(site, jnp.maximum(light, 0.0), 0.0)
    colours.append(interpolate(raw, quarter=place != 1))
  return jnp.stack(colours, axis=-1)


def interpolate(raw: jax.Array, *, quarter: bool) -> jax.Array:
  """Bilinear interpolation of one colour of a Bayer mosaic.

  Args:
    raw: (H, W), zero where the photosites have another colour.
    quarter: whether the colour has one photosite of four (red, blue), not one of two (green).

  Returns:
    (H - 2, W - 2), without the outermost photosites.
  """
  if quarter:  # [1 2 1] / 2 down and across
    rows = 0.5 * (raw[:-2] + raw[2:]) + raw[1:-1]
    return 0.5 * (rows[:, :-2] + rows[:, 2:]) + rows[:, 1:-1]
  beside = raw[:-2, 1:-1] + raw[2:, 1:-1] + raw[1:-1, :-2] + raw[1:-1, 2:]
  return raw[1:-1, 1:-1] + 0.25 * beside


def moire(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
  """The image on a screen, photographed: coloured stripes where the grids of screen and sensor beat.

  Args:
    key: decides geometry, blur and exposure.
    image: (H, W, 3) in [0, 1].
    severity: scalar in [0, 1]; the contrast of the stripes is proportional to it.

  Returns:
    (H, W, 3) in [0, 1].
  """
  gain_key, stops_key = jax.random.split(key)
  gain = 1.0 + severity * (screen_gain(gain_key, *image.shape[:2]) - 1.0)
  stops = severity * jax.random.uniform(stops_key, minval=_STOPS[0], maxval=_STOPS[1])
  light = srgb_to_linear(image) * gain * jnp.exp2(-stops)
  return jnp.clip(linear_to_srgb(jnp.clip(light, 0.0, 1.0)), 0.0, 1.0)
