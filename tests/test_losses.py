"""lh_jax.losses: values that can be checked by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import losses


def test_kl_closed_form():
  """N(1, e^0) against N(0, 1) is 0.5 per element: 8 elements an image; a standard normal costs nothing."""
  mean, logvar = jnp.ones((3, 2, 2, 2)), jnp.zeros((3, 2, 2, 2))
  assert float(losses.kl_divergence(mean, logvar)) == pytest.approx(4.0)
  assert float(losses.kl_divergence(jnp.zeros_like(mean), logvar)) == 0.0
  assert float(losses.kl_divergence(jnp.zeros_like(mean), logvar + 1.0)) == pytest.approx(
    8 * 0.5 * (np.e - 2.0), rel=1e-6
  )


def test_cosine_distance():
  a = jnp.asarray([[[[1.0, 0.0], [0.0, 2.0]]]])
  assert float(losses.cosine_distance(a, a)) == pytest.approx(0.0, abs=1e-6)
  assert float(losses.cosine_distance(a, -a)) == pytest.approx(2.0, abs=1e-6)
  assert float(losses.cosine_distance(a, a[..., ::-1])) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize('name', sorted(losses.INVARIANCE_DISTANCES))
def test_distances_vanish_on_equal_features_and_have_finite_gradients(name):
  distance = losses.INVARIANCE_DISTANCES[name]
  f = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
  assert float(distance(f, f)) == pytest.approx(0.0, abs=1e-6)
  gradient = jax.grad(lambda p: distance(p, f))(jnp.zeros_like(f))
  assert np.isfinite(gradient).all()


def test_vavae_margins():
  """Two tokens at right angles against two equal ones.

  Cosines 1 and 0, similarity matrices differ by 1 off the diagonal.
  """
  features = jnp.asarray([[[[1.0, 0.0], [1.0, 0.0]]]])
  projected = jnp.asarray([[[[1.0, 0.0], [0.0, 1.0]]]])
  expected = np.mean([0.0, 0.5]) + np.mean([0.0, 0.75, 0.75, 0.0])
  assert float(losses.vavae_distance(projected, features)) == pytest.approx(expected, abs=1e-5)


def test_perceptual_distance():
  """Maps that differ in length alone are alike; at right angles they are 2 apart, opposite 4; depths count alike."""
  along, across = jnp.asarray([[[[1.0, 0.0]] * 3]]), jnp.asarray([[[[0.0, 2.0]]]])
  assert float(losses.perceptual_distance([along], [3 * along])) == pytest.approx(0, abs=1e-6)
  assert float(losses.perceptual_distance([along], [-along])) == pytest.approx(4, abs=1e-6)
  assert float(losses.perceptual_distance([along, along[:, :, :1]], [along, across])) == pytest.approx(1, abs=1e-6)
  with pytest.raises(ValueError, match='zip'):
    losses.perceptual_distance([along], [along, along])


def test_gan_losses():
  zero = jnp.zeros((1, 2, 2, 1))
  assert float(losses.vanilla_generator(zero)) == pytest.approx(np.log(2))
  assert float(losses.vanilla_discriminator(zero, zero)) == pytest.approx(2 * np.log(2))
  assert float(losses.vanilla_generator(zero + 20)) < 1e-6 < float(losses.vanilla_generator(zero - 1))
  assert float(losses.hinge_generator(zero + 3)) == -3.0
  assert float(losses.hinge_discriminator(zero + 2, zero - 2)) == 0.0
  assert float(losses.hinge_discriminator(zero, zero)) == 2.0


def settings(**changes):
  return dataclasses.replace(
    losses.LossSettings(
      invariance=0.8,
      invariance_distance='cosine',
      equivariance=0.6,
      equivariance_scales=(0.5,),
      hf_cutoff=0.25,
      hf_fidelity=1.0,
      gan=0.1,
      gan_kind='vanilla',
      phf_fidelity=1.0,
    ),
    **changes,
  )


def test_settings_errors():
  with pytest.raises(ValueError, match="Unknown losses.gan_kind 'wgan'; known: .*'hinge', 'vanilla'"):
    settings(gan_kind='wgan')
  with pytest.raises(ValueError, match="Unknown losses.invariance_distance 'dot'; known"):
    settings(invariance_distance='dot')
  with pytest.raises(ValueError, match=r'losses.hf_cutoff must lie in \(0, 1\], got 0.0'):
    settings(hf_cutoff=0.0)
  for name in ('gan', 'phf_perceptual'):
    with pytest.raises(ValueError, match=f'losses.{name} must be >= 0, got -1'):
      settings(**{name: -1})
  with pytest.raises(ValueError, match='losses.equivariance_scales is empty'):
    settings(equivariance_scales=())
