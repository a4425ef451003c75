"""lh_jax.stages.prepare: the same training batch on any mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import parallel
from lh_jax.stages import prepare


def test_batches_are_prepared_the_same_on_any_mesh():
  """Paired samples keep their own degraded image.

  The others are degraded by a key of (seed, step, place in the batch).
  """
  rng = np.random.default_rng(0)
  host = {name: rng.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8) for name in ('clean', 'degraded')}
  host['task'] = np.asarray([0, 1, 2] * 2 + [2, 0], np.int32)
  results = []
  for mesh in (parallel.make_mesh(), parallel.make_mesh(devices=jax.devices()[:1])):
    function = prepare.make(
      tasks=('low_light', 'noise25'), severity=(0.2, 1.0), crop_size=16, seed=3, stream='x', mesh=mesh
    )
    batch = jax.jit(function)(parallel.put_batch(host, mesh), jnp.int32(5))
    results.append(jax.tree.map(np.asarray, batch))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *results)
  paired = host['task'] == 2
  np.testing.assert_allclose(results[0]['degraded'][paired], host['degraded'][paired] / 255.0, atol=1e-6)
  assert (np.abs(results[0]['degraded'] - results[0]['clean'])[~paired].mean(axis=(1, 2, 3)) > 0.01).all()
  np.testing.assert_allclose(results[0]['clean'], host['clean'] / 255.0, atol=1e-6)


def test_what_is_not_modelled_comes_in_pairs():
  mesh = parallel.make_mesh()
  host = {name: np.full((8, 16, 16, 3), value, np.uint8) for name, value in (('clean', 10), ('degraded', 20))}
  host['task'] = np.full(8, 1, np.int32)
  function = prepare.make(tasks=('raindrop',), severity=(0.2, 1.0), crop_size=16, seed=3, stream='x', mesh=mesh)
  batch = jax.jit(function)(parallel.put_batch(host, mesh), jnp.int32(5))
  np.testing.assert_allclose(batch['degraded'], host['degraded'] / 255.0, atol=1e-6)


def test_identity_leaves_images_clean():
  mesh = parallel.make_mesh()
  host = {'clean': np.full((8, 16, 16, 3), 10, np.uint8), 'task': np.full(8, 1, np.int32)}
  function = prepare.make(
    tasks=('noise50', 'identity'), severity=(0.2, 1.0), crop_size=16, seed=3, stream='x', mesh=mesh
  )
  batch = jax.jit(function)(parallel.put_batch(host, mesh), jnp.int32(5))
  np.testing.assert_array_equal(batch['degraded'], batch['clean'])


def test_errors():
  mesh = parallel.make_mesh()
  with pytest.raises(ValueError, match=r"Unknown data.tasks \['fog'\]; known: \('low_light'"):
    prepare.make(tasks=('fog',), severity=(0.0, 1.0), crop_size=16, seed=0, stream='x', mesh=mesh)
  with pytest.raises(ValueError, match=r'data.severity must be a range within \[0, 1\]'):
    prepare.make(tasks=('haze',), severity=(0.5, 0.1), crop_size=16, seed=0, stream='x', mesh=mesh)
