"""Weather between the scene and the camera: haze, rain, snow.

Contract: one float32 RGB image (H, W, 3) in [0, 1], display values, as in the data sets of the field; the key decides
direction, placement and depth, the severity how much of it there is: 0 leaves the image, 1 is the worst. With one key a
higher severity adds drops or flakes to those already there. Sizes are pixels of the photograph at full resolution.

Drops and flakes are sparse points convolved with the picture of one drop, layer by layer from far (small, many) to
near (large, few, fast). The convolutions are circular, so that a shape leaving on one side enters on the other, and
share one inverse Fourier transform.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lh_jax.ops.blur import fast_fft_length

# Each row is one depth: length and width in pixels, drops a megapixel and opacity at severity 1.
RAIN_LAYERS = ((16.0, 0.6, 2400.0, 0.30), (36.0, 0.8, 800.0, 0.42), (90.0, 1.3, 130.0, 0.50))
# Radius in pixels, flakes a megapixel and opacity at severity 1, length over width. Near flakes are faster and softer.
SNOW_LAYERS = (
  (0.8, 4000.0, 0.80, 1.2),
  (1.5, 1500.0, 0.93, 1.3),
  (2.6, 420.0, 0.95, 1.5),
  (4.5, 90.0, 0.93, 1.7),
  (8.0, 16.0, 0.85, 1.9),
  (15.0, 4.0, 0.65, 2.2),
)
_RAIN_SLANT = np.deg2rad(35.0)  # largest angle from the vertical
_SNOW_SLANT = np.deg2rad(55.0)
_LAYER_JITTER = np.deg2rad(4.0)  # layers differ a little in direction: wind is not uniform


def smooth_field(key: jax.Array, height: int, width: int, *, waves: int = 4) -> jax.Array:
  """A random field without detail: a cosine series whose amplitudes fall with the square of the frequency.

  Args:
    key: decides the amplitudes.
    height: rows.
    width: columns.
    waves: half-periods across the image, at most.

  Returns:
    (height, width), scaled to run from 0 to 1 exactly.
  """
  order = jnp.arange(waves, dtype=jnp.float32)
  amplitude = jax.random.normal(key, (waves, waves)) / (1.0 + (order**2)[:, None] + (order**2)[None, :])

  def basis(length: int) -> jax.Array:
    place = (jnp.arange(length, dtype=jnp.float32) + 0.5) / length
    return jnp.cos(jnp.pi * place[:, None] * order[None])

  field = jnp.linalg.multi_dot([basis(height), amplitude, basis(width).T], precision='highest')
  lowest, highest = field.min(), field.max()
  return (field - lowest) / jnp.maximum(highest - lowest, 1e-6)


def haze(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
  """Atmospheric scattering: I = J t + A (1 - t) with t = exp(-beta d).

  Koschmieder's law (Koschmieder 1924; Narasimhan and Nayar, "Vision and the Atmosphere", IJCV 2002), with airlight A
  close to white and a smooth random depth d that mostly grows from the bottom of the picture to the top, as over open
  ground. It acts on display values, not on linear light, because the field's synthetic sets do (RESIDE: Li et al.,
  IEEE TIP 2019).

  Args:
    key: decides depth, airlight and density.
    image: (H, W, 3) in [0, 1].
    severity: scalar in [0, 1]; the scattering coefficient is proportional to it.

  Returns:
    (H, W, 3) in [0, 1].
  """
  depth_key, ramp_key, density_key, light_key, tint_key = jax.random.split(key, 5)
  height, width, _ = image.shape
  upward = 1.0 - (jnp.arange(height, dtype=jnp.float32) + 0.5) / height
  ramp = jax.random.uniform(ramp_key, minval=0.2, maxval=0.8)
  depth = ramp * upward[:, None] + (1.0 - ramp) * smooth_field(depth_key, height, width)
  beta = severity * jax.random.uniform(density_key, minval=1.8, maxval=2.8)
  transmission = jnp.exp(-beta * (0.25 + 0.75 * depth))[:, :, None]
  tint = jax.random.uniform(tint_key, (1, 1, 3), minval=-0.02, maxval=0.02)
  airlight = jax.random.uniform(light_key, minval=0.75, maxval=0.95) + tint
  return jnp.clip(image * transmission + airlight * (1.0 - transmission), 0.0, 1.0)


def _layered_mask(
  key: jax.Array,
  height: int,
  width: int,
  severity: jax.Array,
  direction: jax.Array,
  layers: Sequence[tuple[float, Callable[[jax.Array, jax.Array], jax.Array]]],
) -> jax.Array:
  """Opacity (height, width) in [0, 1) of sparse shapes; each layer is (shapes a megapixel, picture of one shape).

  The picture is a function of the coordinates along and across `direction` (radians from the vertical), in pixels.
  """
  shape = (fast_fft_length(height), fast_fft_length(width))
  y, x = (jnp.asarray(np.fft.fftfreq(n, 1.0 / n), jnp.float32) for n in shape)  # 0, 1, .., -2, -1
  spectrum = 0.0
  for layer, (density, picture) in enumerate(layers):
    place_key, angle_key = jax.random.split(jax.random.fold_in(key, layer))
    angle = direction + jax.random.uniform(angle_key, minval=-_LAYER_JITTER, maxval=_LAYER_JITTER)
    along = (y * jnp.cos(angle))[:, None] + (x * jnp.sin(angle))[None]
    across = (x * jnp.cos(angle))[None] - (y * jnp.sin(angle))[:, None]
    # A point is there when its random number is below the density; how far below sets its brightness.
    rank = jax.random.uniform(place_key, shape) / (density * 1e-6)
    points = jnp.where(rank < severity, 1.0 - 0.6 * rank, 0.0)
    spectrum = spectrum + jnp.fft.rfft2(points) * jnp.fft.rfft2(picture(along, across))
  total = jnp.fft.irfft2(spectrum, s=shape)[:height, :width]
  # Overlapping shapes hide what is left of the background, so opacities combine as transmissions do.
  return -jnp.expm1(-jnp.maximum(total, 0.0))


def _veil(image: jax.Array, airlight: jax.Array, thickness: jax.Array) -> jax.Array:
  """What far drops or flakes that cannot be told apart do: a uniform haze."""
  transmission = jnp.exp(-thickness)
  return image * transmission + airlight * (1.0 - transmission)


def rain(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
  """Rain streaks of one direction at three depths over a veil.

  Falling drops are lens-like and brighter than what is behind them, and during the exposure each draws a streak (Garg
  and Nayar, "Vision and Rain", IJCV 2007): streaks are added by screen blending, so they show on dark ground and
  vanish on the sky. Distant drops add up to a veil (Li, Cheong and Tan, "Heavy Rain Image Restoration", CVPR 2019).

  Args:
    key: decides direction and places.
    image: (H, W, 3) in [0, 1].
    severity: scalar in [0, 1]; number and brightness of the streaks and the veil grow with it.

  Returns:
    (H, W, 3) in [0, 1].
  """
  slant_key, light_key, mask_key = jax.random.split(key, 3)
  height, width, _ = image.shape

  def streak(length: float, thickness: float, opacity: float):
    half = min(length, min(height, width)) / 2
    strength = opacity * (0.5 + 0.5 * severity)
    return lambda along, across: (
      strength * jnp.clip(1.0 - (along / half) ** 2, 0.0, 1.0) * jnp.exp(-0.5 * (across / thickness) ** 2)
    )

  layers = [(density, streak(length, thickness, opacity)) for length, thickness, density, opacity in RAIN_LAYERS]
  slant = jax.random.uniform(slant_key, minval=-_RAIN_SLANT, maxval=_RAIN_SLANT)
  mask = _layered_mask(mask_key, height, width, severity, slant, layers)[:, :, None]
  airlight = jax.random.uniform(light_key, minval=0.60, maxval=0.80)
  veiled = _veil(image, airlight, 0.45 * severity)
  brightness = 0.6 + 0.4 * image.mean()  # drops show the sky, which a dark picture has less of
  return jnp.clip(1.0 - (1.0 - veiled) * (1.0 - brightness * mask), 0.0, 1.0)


def snow(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
  """Snow flakes of six sizes that hide what is behind them, over a veil.

  Flakes are opaque and white, larger, faster and out of focus when near: image = background (1 - mask) + white mask,
  then the veil of far flakes (the composition of Liu et al., "DesnowNet", IEEE TIP 2018, and of Chen et al.,
  "JSTASR", ECCV 2020).

  Args:
    key: decides direction and places.
    image: (H, W, 3) in [0, 1].
    severity: scalar in [0, 1]; number of the flakes and the veil grow with it.

  Returns:
    (H, W, 3) in [0, 1].
  """
  slant_key, light_key, mask_key = jax.random.split(key, 3)
  height, width, _ = image.shape

  def flake(radius: float, opacity: float, elongation: float):
    radius = min(radius, min(height, width) / 8.0)
    # The mask turns strengths into opacities. A soft profile of varying strength then gives flakes of varying size.
    strength = -np.log1p(-opacity)
    return lambda along, across: strength * jnp.exp(-((along / (elongation * radius)) ** 2 + (across / radius) ** 2))

  layers = [(density, flake(radius, opacity, elongation)) for radius, density, opacity, elongation in SNOW_LAYERS]
  slant = jax.random.uniform(slant_key, minval=-_SNOW_SLANT, maxval=_SNOW_SLANT)
  mask = _layered_mask(mask_key, height, width, severity, slant, layers)[:, :, None]
  airlight = jax.random.uniform(light_key, minval=0.70, maxval=0.85)
  veiled = _veil(image, airlight, 0.40 * severity)
  white = jnp.array([0.94, 0.96, 0.98])[None, None]
  return jnp.clip(veiled * (1.0 - mask) + white * mask, 0.0, 1.0)
