"""Every size of VAE and every restorer through both stages: shapes only, nothing is compiled."""

import jax
import jax.numpy as jnp
import pytest

from lh_jax import networks as networks_lib
from lh_jax.models import restorers
from lh_jax.models import vae
from lh_jax.stages import build


@pytest.mark.parametrize('restorer', restorers.RESTORERS)
@pytest.mark.parametrize('preset', vae.PRESETS)
def test_every_step_fits(tiny_config, preset, restorer):
  sections = {name: tiny_config[name].to_dict() for name in networks_lib.SECTIONS}
  sections['vae']['preset'] = preset
  # The default size of each.
  sections['restorer'] = {name: None for name in sections['restorer']} | {'name': restorer}
  networks = networks_lib.build(sections)
  tiny_config.stage1.crop_size = tiny_config.stage2.crop_size = 64  # half of which is a cell of `vae1`
  key = jax.random.key(0)
  side = 2 * networks.vae.preset.factor * max(networks.restorer.multiple, 2)
  image = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
  for name in build.STAGES:
    stage = build.build(name, tiny_config, networks)
    state = jax.eval_shape(stage.init, key)
    frozen = jax.eval_shape(networks.init_vae, key)
    if name == 'stage1':
      frozen = {'foundation': build.foundation(tiny_config, 'stage1').abstract_params()}
    for step in stage.steps.values():
      after, metrics = jax.eval_shape(step, state, frozen, {'clean': image, 'degraded': image})
      assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
      assert all(value.shape == () for value in metrics.values())
