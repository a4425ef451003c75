"""lh_jax.checkpoint: save, restore, identity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import checkpoint
from lh_jax import parallel


def state(value=1.0, size=64):
  return {'w': jnp.full((size, 8), value), 'step': jnp.int32(3)}


def abstract(tree, mesh=None):
  shardings = parallel.state_shardings(mesh or parallel.make_mesh(), tree, min_size=1)
  return parallel.abstract_like(tree, shardings)


def test_round_trip_and_keep(tmp_path):
  with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=2) as checkpoints:
    assert checkpoints.latest_step() is None
    for step in (1, 2, 3):
      checkpoints.save(step, state(step))
    checkpoints.save(3, state(9.0))
  with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=2) as checkpoints:
    assert checkpoints.latest_step() == 3
    checkpoints.check_identity(3)
    restored = checkpoints.restore(3, abstract(state()))
    np.testing.assert_array_equal(restored['w'], np.full((64, 8), 3.0))
    with pytest.raises(FileNotFoundError):
      checkpoints.restore(1, abstract(state()))


@pytest.mark.parametrize('options', [{'devices': 1}, {'fsdp': 4}, {'fsdp': 8}])
def test_restores_onto_other_devices(tmp_path, options):
  eight = parallel.make_mesh(fsdp=8)
  saved = {'w': np.arange(512.0, dtype=np.float32).reshape(64, 8)}
  with checkpoint.Checkpointer(tmp_path, identity={}, keep=1) as checkpoints:
    checkpoints.save(1, parallel.put(saved, parallel.state_shardings(eight, saved, min_size=1)))
  mesh = parallel.make_mesh(devices=jax.devices()[:1]) if 'devices' in options else parallel.make_mesh(**options)
  with checkpoint.Checkpointer(tmp_path, identity={}, keep=1) as checkpoints:
    wanted = abstract(saved, mesh)
    restored = checkpoints.restore(1, wanted)
    assert restored['w'].sharding == wanted['w'].sharding
    np.testing.assert_array_equal(restored['w'], saved['w'])


def test_a_background_save_does_not_see_later_steps(tmp_path):
  """The state is donated right after the save starts; the file must hold what was there before."""
  bump = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
  current = {'w': jnp.zeros((1024, 512))}
  with checkpoint.Checkpointer(tmp_path, identity={}, keep=1) as checkpoints:
    checkpoints.save(1, current)
    for _ in range(20):
      current = bump(current)
  with checkpoint.Checkpointer(tmp_path, identity={}, keep=1) as checkpoints:
    assert float(jnp.abs(checkpoints.restore(1, abstract(current))['w']).max()) == 0.0


def test_identity_names_every_difference(tmp_path):
  identity = {'vae': {'preset': 'lh', 'norm': None}, 'dims': (1, 2), 'stage': 'stage1'}
  with checkpoint.Checkpointer(tmp_path, identity=identity, keep=1) as checkpoints:
    checkpoints.save(1, state())
  with checkpoint.Checkpointer(tmp_path, identity=identity, keep=1) as checkpoints:
    checkpoints.check_identity(1)
  other = {'vae': {'preset': 'vae1', 'norm': None}, 'dims': (1, 3), 'stage': 'stage1'}
  with checkpoint.Checkpointer(tmp_path, identity=other, keep=1) as checkpoints:
    with pytest.raises(
      ValueError,
      match=r'another configuration: dims is \[1, 2\] there and \[1, 3\] here; '
      "vae.preset is 'lh' there and 'vae1' here.*--workdir",
    ):
      checkpoints.check_identity(1)


def test_keep_is_checked(tmp_path):
  with pytest.raises(ValueError, match='train.keep_checkpoints must be at least 1, got 0'):
    checkpoint.Checkpointer(tmp_path, identity={}, keep=0)
