"""One device and eight give the same training: every step function, data-parallel and parameter-sharded."""

import jax
import numpy as np
import pytest

from lh_jax import networks as networks_lib
from lh_jax import parallel
from lh_jax.stages import build
from lh_jax.stages import prepare

STEPS = 3
CASES = [('stage1', 'scale_0.5'), ('stage2', 'restorer'), ('stage2', 'encoder_lora'), ('stage2', 'decoder_lora')]
# Sums over the batch are taken in another order on other meshes, and Adam turns tiny gradients into steps of the
# learning rate's size.
TOLERANCE = {'rtol': 1e-3, 'atol': 5e-5}


def run(config, stage_name, phase, mesh):
  """Three steps on a mesh; returns the first shardings, the final state and the metrics of every step."""
  config.losses.phf_perceptual = 1.0
  networks = networks_lib.build({name: config[name].to_dict() for name in networks_lib.SECTIONS})
  stage = build.build(stage_name, config, networks)
  parts = jax.jit(networks.init_vae)(jax.random.key(1))
  frozen = parts | {'foundation': build.foundation(config, stage_name).init(jax.random.key(2))}
  shapes = jax.eval_shape(stage.init, jax.random.key(0))
  shardings = parallel.state_shardings(mesh, shapes, min_size=64)
  state = jax.jit(stage.init, out_shardings=shardings)(jax.random.key(0))
  frozen = parallel.put(frozen, jax.tree.map(lambda _: parallel.replicated(mesh), frozen))
  prepared = jax.jit(
    prepare.make(tasks=('low_light', 'noise25'), severity=(0.2, 1.0), crop_size=64, seed=0, stream='test', mesh=mesh),
    out_shardings=parallel.image_sharding(mesh),
  )
  step = jax.jit(stage.steps[phase], donate_argnums=0, out_shardings=(shardings, parallel.replicated(mesh)))
  rng, metrics = np.random.default_rng(0), []
  for _ in range(STEPS):
    host = {'clean': rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8), 'task': np.arange(8, dtype=np.int32) % 2}
    state, values = step(state, frozen, prepared(parallel.put_batch(host, mesh), state.step))
    metrics.append(jax.device_get(values))
  return shardings, state, metrics


@pytest.mark.parametrize('stage, phase, method', [*((*case, 'adamw') for case in CASES), (*CASES[0], 'muon')])
def test_eight_devices_equal_one(tiny_config, stage, phase, method):
  assert jax.device_count() == 8
  tiny_config.optim.stage1.method = method
  # 'space' needs rows of the deepest features on every device.
  tiny_config[stage].crop_size = 64
  _, single, single_metrics = run(tiny_config, stage, phase, parallel.make_mesh(devices=jax.devices()[:1]))
  for options in ({}, {'fsdp': 4}, {'fsdp': 2, 'space': 2}):
    shardings, state, metrics = run(tiny_config, stage, phase, parallel.make_mesh(**options))
    assert jax.tree.all(jax.tree.map(lambda leaf, sharding: leaf.sharding == sharding, state, shardings))
    sharded = [leaf for leaf in jax.tree.leaves(state.params) if not leaf.sharding.is_fully_replicated]
    assert bool(sharded) == ('fsdp' in options)
    for one, eight in zip(single_metrics, metrics):
      assert one.keys() == eight.keys()
      for name in one:
        np.testing.assert_allclose(eight[name], one[name], rtol=2e-3, atol=1e-5, err_msg=name)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), **TOLERANCE), state.params, single.params
    )
