"""lh_jax.stages.pdps: Eq. 3, its branches and its schedule."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.stages import pdps

SETTINGS = pdps.PDPS(
  probabilities=(0.2, 0.4, 0.4),
  severity=(0.1, 1.0),
  beta=(0.0, 1.0),
  blur_sigma=(0.2, 4.0),
  noise_sigma=(0.0, 50.0),
  jpeg_quality=(95.0, 30.0),
)
ONLY_CLEAN, ONLY_SYNTHETIC, ONLY_MIXED = (
  dataclasses.replace(SETTINGS, probabilities=tuple(np.eye(3)[branch])) for branch in range(3)
)


@pytest.fixture(scope='module')
def images():
  """Smooth, structured images, and a pretended degradation of them."""
  grid = np.linspace(0, 1, 16, dtype=np.float32)
  clean = np.stack(
    [0.25 + 0.5 * np.outer(grid**power, 1 - grid)[..., None] * np.ones(3, np.float32) for power in range(1, 9)]
  )
  return jnp.asarray(clean), jnp.asarray(1.0 - clean)


def test_branches_come_in_the_given_proportions():
  """10 000 draws: three standard deviations are 0.015."""
  drawn = np.asarray(pdps.draw_branches(jax.random.key(0), 10_000, SETTINGS))
  np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 10_000, (0.2, 0.4, 0.4), atol=0.015)


def test_each_branch(images):
  clean, degraded = images
  perturb = lambda settings, t: pdps.perturb(jax.random.key(0), clean, degraded, jnp.float32(t), settings)
  np.testing.assert_array_equal(perturb(ONLY_CLEAN, 1.0), clean)
  np.testing.assert_allclose(perturb(ONLY_MIXED, 0.0), clean, atol=1e-6)
  np.testing.assert_allclose(perturb(ONLY_MIXED, 0.25), 0.75 * clean + 0.25 * degraded, atol=1e-6)
  np.testing.assert_allclose(perturb(ONLY_MIXED, 1.0), degraded, atol=1e-6)
  synthetic = np.asarray(perturb(ONLY_SYNTHETIC, 1.0))
  # At least one degradation hits every sample.
  assert (np.abs(synthetic - clean).mean(axis=(1, 2, 3)) > 1e-4).all()
  assert synthetic.min() >= 0.0 and synthetic.max() <= 1.0


def test_strength_rises_with_progress(images):
  clean, degraded = images
  for settings in (ONLY_SYNTHETIC, ONLY_MIXED):
    run = jax.jit(
      lambda key, t, settings=settings: jnp.mean(jnp.abs(pdps.perturb(key, clean, degraded, t, settings) - clean))
    )
    means = [np.mean([run(jax.random.key(seed), jnp.float32(t)) for seed in range(4)]) for t in (0.0, 0.5, 1.0)]
    assert means[0] < means[1] < means[2]
    assert run._cache_size() == 1


def test_samples_are_independent(images):
  """With probabilities one half, branches within one batch differ: they are drawn per sample."""
  clean, degraded = images
  settings = dataclasses.replace(SETTINGS, probabilities=(1, 0, 1))
  result = np.asarray(pdps.perturb(jax.random.key(1), clean, degraded, jnp.float32(1.0), settings))
  is_clean = np.abs(result - clean).max(axis=(1, 2, 3)) < 1e-6
  assert 0 < is_clean.sum() < len(clean)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'probabilities': (0, 0, 0)}, 'pdps.probabilities must be three numbers'),
    ({'probabilities': (1, 1)}, 'pdps.probabilities'),
    ({'severity': (0.5, 0.1)}, r'pdps.severity must rise within \[0, 1\]'),
    ({'beta': (0.0, 1.5)}, r'pdps.beta must rise within \[0, 1\]'),
  ],
)
def test_errors(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(SETTINGS, **change)
