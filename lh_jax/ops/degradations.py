"""Degradations of one image, by name, and of batches, for training data and for the PDPS schedule.

Contract: an image is float32 RGB (H, W, 3) in [0, 1], display values, 8x8 pixels or more; so is the result. Every
degradation is a pure function f(key, image, severity) of a scalar severity in [0, 1]: 0 leaves the image, 1 is the
worst, and with one key the image gets monotonically worse in between; only noise has its strength in its name.
`STRENGTHS` says what severity 1 is. Sizes in pixels are those of a photograph at full resolution and do not depend on
the size of the crop unless it is too small to hold them, so that a model trained on crops meets the same weather on
whole images.

`TASKS` are those of the paper's settings (Sec. 4.1): low light, haze, blur, rain, snow and noise of standard deviation
15, 25 and 50 on the scale 0..255. `BENCHMARK` adds what the paper tests on unseen (Table 4, supplement Table 4): moiré,
and composites, which are several degradations one after the other. Each of these may be trained on too.

The batched primitives (`gaussian_blur`, `gaussian_noise`, and `jpeg` in `ops.jpeg`) take one strength for each image
and are what the progressive degradation perturbation strategy is built from (Eq. 3).
"""

from __future__ import annotations

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp

from lh_jax.ops.blur import blur
from lh_jax.ops.blur import gaussian_blur
from lh_jax.ops.light import linear_to_srgb
from lh_jax.ops.light import srgb_to_linear
from lh_jax.ops.moire import moire
from lh_jax.ops.weather import haze
from lh_jax.ops.weather import rain
from lh_jax.ops.weather import snow

__all__ = [
  'BENCHMARK',
  'COMPOSITES',
  'DEGRADATIONS',
  'STRENGTHS',
  'TASKS',
  'UNMODELLED',
  'blur',
  'composite',
  'degrade',
  'degrade_batch',
  'gaussian_blur',
  'gaussian_noise',
  'haze',
  'identity',
  'low_light',
  'moire',
  'noise',
  'rain',
  'snow',
]


def low_light(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
  """Under-exposure: less light on the sensor, its noise, and a steeper tone curve.

  In linear light the exposure falls by 3.5 to 5.5 stops at severity 1. The sensor adds photon and read-out noise,
  whose variance is affine in the light (Foi et al., "Practical Poissonian-Gaussian Noise Modeling and Fitting for
  Single-Image Raw Data", IEEE TIP 2008); then display encoding and a gamma of up to 1.3 deepen the shadows, in the
  spirit of the gamma model of LLNet (Lore et al., Pattern Recognition 2017).

  Args:
    key: decides exposure, gamma and noise.
    image: (H, W, 3) in [0, 1].
    severity: scalar in [0, 1].

  Returns:
    (H, W, 3) in [0, 1].
  """
  stops_key, gamma_key, noise_key = jax.random.split(key, 3)
  stops = severity * jax.random.uniform(stops_key, minval=3.5, maxval=5.5)
  gamma = 1.0 + severity * jax.random.uniform(gamma_key, maxval=0.3)
  light = srgb_to_linear(image) * jnp.exp2(-stops)
  deviation = severity * jnp.sqrt(2e-4 * light + 3e-4**2)
  light = light + deviation * jax.random.normal(noise_key, image.shape)
  return jnp.clip(linear_to_srgb(jnp.clip(light, 0.0, 1.0)), 0.0, 1.0) ** gamma


def noise(key: jax.Array, image: jax.Array, severity: jax.Array, *, level: float) -> jax.Array:
  """White Gaussian noise, independent for each pixel and channel, clipped to the range.

  Args:
    key: decides the noise.
    image: (H, W, 3) in [0, 1].
    severity: not used: the level in the task's name is its strength, as in the paper's tables.
    level: standard deviation on the scale 0..255.

  Returns:
    (H, W, 3) in [0, 1].
  """
  del severity
  return jnp.clip(image + (level / 255.0) * jax.random.normal(key, image.shape), 0.0, 1.0)


def identity(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
  """Leaves the image: for samples whose degraded twin comes from a file.

  Args:
    key: not used.
    image: (H, W, 3) in [0, 1].
    severity: not used.

  Returns:
    The image.
  """
  del key, severity
  return image


def composite(key: jax.Array, image: jax.Array, severity: jax.Array, *, parts: Sequence[str]) -> jax.Array:
  """Several degradations, one after the other, each with a key of its own.

  Args:
    key: decides everything random.
    image: (H, W, 3) in [0, 1].
    severity: scalar in [0, 1], of every part.
    parts: names from `DEGRADATIONS`, in the order in which they happen.

  Returns:
    (H, W, 3) in [0, 1].
  """
  for place, part in enumerate(parts):
    image = DEGRADATIONS[part](jax.random.fold_in(key, place), image, severity)
  return image


# What the paper's settings train on.
TASKS = ('low_light', 'haze', 'blur', 'rain', 'snow', 'noise15', 'noise25', 'noise50')
# The paper's names; the parts stand in the order in which they happen: the air, the lens, the exposure, the sensor.
COMPOSITES = {
  'low_light+noise25': ('low_light', 'noise25'),
  'haze+low_light': ('haze', 'low_light'),
  'noise25+blur': ('blur', 'noise25'),
}
BENCHMARK = (*TASKS, 'moire', *COMPOSITES)
# Of published pairs, which alone can be trained and tested on: there is no model of it here.
UNMODELLED = ('raindrop',)

DEGRADATIONS = {
  'low_light': low_light,
  'haze': haze,
  'blur': blur,
  'rain': rain,
  'snow': snow,
  'noise15': functools.partial(noise, level=15.0),
  'noise25': functools.partial(noise, level=25.0),
  'noise50': functools.partial(noise, level=50.0),
  'moire': moire,
  **{name: functools.partial(composite, parts=parts) for name, parts in COMPOSITES.items()},
  'identity': identity,
}

# At severity 1; a range is drawn from by the key, and shrinks with the severity to nothing at 0.
STRENGTHS = {
  'low_light': 'exposure lower by 3.5 to 5.5 stops, sensor noise, gamma 1 to 1.3',
  'haze': 'scattering 1.8 to 2.8 over the depth of the picture, airlight 0.73 to 0.97',
  'blur': 'camera path of 24 to 32 pixels, or defocus of radius 7.2 to 9.6 pixels',
  'rain': '3330 streaks a megapixel, up to 90 pixels long, and a veil of thickness 0.45',
  'snow': '6030 flakes a megapixel, of radius 0.8 to 15 pixels, and a veil of thickness 0.40',
  'noise15': 'standard deviation 15 of 255, as at every severity',
  'noise25': 'standard deviation 25 of 255, as at every severity',
  'noise50': 'standard deviation 50 of 255, as at every severity',
  'moire': 'grids at 1 to 5 degrees, pitch 1/2 within 3 percent; exposure lower by 0.15 to 0.4 stops',
  **{name: ', then '.join(parts) for name, parts in COMPOSITES.items()},
}


def _chosen(tasks: Sequence[str]) -> list:
  known = f'; known: {", ".join(DEGRADATIONS)}'
  if not tasks:
    raise ValueError('no degradation is named' + known)
  unknown = [task for task in tasks if task not in DEGRADATIONS]
  if unknown:
    raise ValueError(f'unknown degradation(s) {", ".join(unknown)}' + known)
  return [DEGRADATIONS[task] for task in tasks]


def degrade(
  key: jax.Array, image: jax.Array, task_id: jax.Array, severity: jax.Array, *, tasks: Sequence[str]
) -> jax.Array:
  """Degrades one image by the task with the given number; only that task is computed.

  Args:
    key: decides everything random.
    image: (H, W, 3) float32 in [0, 1].
    task_id: scalar integer, a place in `tasks`; numbers outside are clamped to the nearest.
    severity: scalar in [0, 1].
    tasks: names from `BENCHMARK` or 'identity'.

  Returns:
    (H, W, 3) in [0, 1].

  Raises:
    ValueError: if a name is unknown or there is none.
  """
  return jax.lax.switch(task_id, _chosen(tasks), key, image, severity)


def degrade_batch(
  keys: jax.Array, images: jax.Array, task_ids: jax.Array, severities: jax.Array, *, tasks: Sequence[str]
) -> jax.Array:
  """Degrades each image of a batch as `degrade` would, one after the other, so that only the chosen tasks are computed.

  Args:
    keys: (B,) typed keys.
    images: (B, H, W, 3) float32 in [0, 1].
    task_ids: (B,) integers, places in `tasks`.
    severities: (B,) in [0, 1].
    tasks: names from `BENCHMARK` or 'identity'.

  Returns:
    (B, H, W, 3) in [0, 1]; image i depends on element i of the arguments alone.

  Raises:
    ValueError: if a name is unknown or there is none.
  """
  _chosen(tasks)
  return jax.lax.map(lambda sample: degrade(*sample, tasks=tasks), (keys, images, task_ids, severities))


def gaussian_noise(key: jax.Array, images: jax.Array, sigma: jax.Array) -> jax.Array:
  """White Gaussian noise with one strength for each image, clipped to the range.

  Args:
    key: decides the noise of the whole batch.
    images: (B, H, W, C) in [0, 1].
    sigma: (B,) standard deviations on the scale of the images.

  Returns:
    (B, H, W, C) in [0, 1].
  """
  return jnp.clip(images + sigma[:, None, None, None] * jax.random.normal(key, images.shape), 0.0, 1.0)
