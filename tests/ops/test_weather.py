"""Haze, rain and snow obey the models they cite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.ops import weather

ONE = jnp.float32(1.0)
# Compiled once; operation by operation each would cost seconds.
haze, rain, snow = jax.jit(weather.haze), jax.jit(weather.rain), jax.jit(weather.snow)


def test_smooth_field_fills_the_unit_range_without_detail():
  field = np.asarray(jax.jit(weather.smooth_field, static_argnums=(1, 2))(jax.random.key(0), 60, 83))
  assert field.shape == (60, 83)
  np.testing.assert_allclose([field.min(), field.max()], [0.0, 1.0], atol=1e-6)
  assert np.abs(np.diff(field, axis=0)).max() < 0.2 and np.abs(np.diff(field, axis=1)).max() < 0.2


def test_haze_is_koschmieders_law():
  # For one key, t and A are fixed: black shows A (1 - t), white shows that plus t, and grey lies half way.
  black, grey, white = (np.asarray(haze(jax.random.key(3), jnp.full((40, 31, 3), v), ONE)) for v in (0, 0.5, 1))
  transmission = white - black
  assert transmission.min() > 0.03 and transmission.max() < 0.75
  np.testing.assert_allclose(transmission[..., :1].repeat(3, axis=-1), transmission, atol=1e-6)
  np.testing.assert_allclose(grey, 0.5 * (black + white), atol=1e-6)
  airlight = (black / (1 - transmission)).reshape(-1, 3)
  np.testing.assert_allclose(airlight, np.broadcast_to(airlight[:1], airlight.shape), atol=1e-5)
  assert 0.7 < airlight.min() <= airlight.max() < 1.0


def test_haze_density_is_proportional_to_severity():
  white, black = jnp.ones((16, 16, 3)), jnp.zeros((16, 16, 3))
  depths = []
  for severity in (0.4, 0.8):
    t = [haze(jax.random.key(3), image, jnp.float32(severity)) for image in (white, black)]
    depths.append(-np.log(np.asarray(t[0] - t[1])))
  np.testing.assert_allclose(depths[1], 2 * depths[0], rtol=1e-4)


def test_rain_brightens_the_dark_and_spares_the_bright():
  key = jax.random.key(0)
  dark = np.asarray(rain(key, jnp.full((96, 96, 3), 0.1), ONE))
  assert (dark >= 0.1).all() and dark.std() > 0.02
  bright = np.asarray(rain(key, jnp.full((96, 96, 3), 0.95), ONE))
  assert bright.std() < 0.5 * dark.std()


def test_rain_streaks_have_one_direction():
  dark = np.asarray(rain(jax.random.key(0), jnp.zeros((96, 96, 3)), ONE))[..., 0]
  # Streaks are within 39 degrees of the vertical, so the picture changes less down than across.
  assert np.abs(np.diff(dark, axis=0)).mean() < 0.8 * np.abs(np.diff(dark, axis=1)).mean()


def test_snow_hides_the_scene_behind_white_flakes():
  key = jax.random.key(0)
  black, white = (np.asarray(snow(key, jnp.full((96, 96, 3), v), ONE)) for v in (0.0, 1.0))
  seen = white - black  # what is left of the scene's contrast
  assert seen.min() < 0.1 < 0.6 < seen.max()
  assert black.max() > 0.85
  # Flakes are neutral or a little blue.
  assert (black[..., 2] >= black[..., 0] - 1e-6).all()


@pytest.mark.parametrize('fall', [rain, snow], ids=['rain', 'snow'])
def test_more_of_it_adds_to_what_is_there(fall):
  some, more = (np.asarray(fall(jax.random.key(1), jnp.zeros((96, 96, 3)), jnp.float32(s))) for s in (0.4, 0.9))
  assert (more >= some - 1e-5).all() and more.mean() > some.mean()
