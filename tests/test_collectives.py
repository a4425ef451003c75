"""What devices send each other in a data-parallel step, read off the compiled program: sums of gradients and
statistics, but never the batch.
"""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import networks as networks_lib
from lh_jax import parallel
from lh_jax.ops import resize
from lh_jax.stages import build
from lh_jax.stages import prepare

CASES = [('stage1', 'scale_0.5'), ('stage2', 'restorer'), ('stage2', 'encoder_lora'), ('stage2', 'decoder_lora')]
KINDS = '(all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all|ragged-all-to-all|collective-broadcast)'


def collectives(compiled):
  """Counts the collectives of a compiled program by kind."""
  return collections.Counter(re.findall(rf' {KINDS}(?:-start)?\(', compiled.as_text()))


def split(shape, mesh, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype, sharding=parallel.batch_sharding(mesh))


def compiled_step(config, stage_name, phase, mesh):
  config.losses.phf_perceptual = 1.0
  networks = networks_lib.build({name: config[name].to_dict() for name in networks_lib.SECTIONS})
  stage = build.build(stage_name, config, networks)
  key = jax.random.key(0)
  state = jax.eval_shape(stage.init, key)
  state = parallel.abstract_like(state, parallel.state_shardings(mesh, state, min_size=64))
  frozen = jax.eval_shape(networks.init_vae, key)
  if (model := build.foundation(config, stage_name)) is not None:
    frozen['foundation'] = model.abstract_params()
  frozen = parallel.abstract_like(frozen, jax.tree.map(lambda _: parallel.replicated(mesh), frozen))
  # Two samples a device: what mixes them within a device but not between devices is not noticed with one.
  image = split((16, 32, 32, 3), mesh)
  return parallel.compile_step(stage.steps[phase], state, frozen, {'clean': image, 'degraded': image})[0]


@pytest.mark.parametrize('stage, phase', CASES)
def test_data_parallel_steps_only_sum(tiny_config, stage, phase):
  assert jax.device_count() == 8
  found = collectives(compiled_step(tiny_config, stage, phase, parallel.make_mesh()))
  assert set(found) == {'all-reduce'}, found


@pytest.mark.parametrize('stage, phase', CASES)
def test_sharded_parameters_are_gathered_and_gradients_summed(tiny_config, stage, phase):
  """No activation is sent, and nothing is laid out anew."""
  found = collectives(compiled_step(tiny_config, stage, phase, parallel.make_mesh(fsdp=8)))
  assert 'all-gather' in found and set(found) <= {'all-reduce', 'all-gather', 'reduce-scatter'}, found


def test_degrading_sends_nothing():
  mesh = parallel.make_mesh()
  degrade = prepare.make(
    tasks=('low_light', 'blur', 'noise25'), severity=(0.2, 1.0), crop_size=32, seed=0, stream='test', mesh=mesh
  )
  batch = {'clean': split((16, 32, 32, 3), mesh, jnp.uint8), 'task': split((16,), mesh, jnp.int32)}
  step = jax.ShapeDtypeStruct((), jnp.int32, sharding=parallel.replicated(mesh))
  assert not collectives(jax.jit(degrade, out_shardings=parallel.batch_sharding(mesh)).lower(batch, step).compile())


def test_padding_sends_nothing():
  """The derivative of `jnp.pad(mode='edge')` does, along axes that it does not pad."""
  mesh = parallel.make_mesh()
  x = split((16, 8, 8, 4), mesh)
  grad = jax.grad(lambda x: jnp.sum(jnp.square(resize.upsample_bilinear_2x(x))))
  assert not collectives(jax.jit(grad).lower(x).compile())
  image = np.random.default_rng(0).random((2, 3, 4, 2), np.float32)
  widths = ((0, 0), (1, 2), (0, 3), (0, 0))
  np.testing.assert_array_equal(resize.pad_edge(image, widths), np.pad(image, widths, mode='edge'))
