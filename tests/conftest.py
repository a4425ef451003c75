"""Eight virtual CPU devices, strict shapes and quick compilation for every test."""

import os
import pathlib
import runpy
import tempfile

# Read when JAX starts its backend. Optimised code would cost more to compile than these tiny networks take to run.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = ' '.join(
  [
    os.environ.get('XLA_FLAGS', ''),
    '--xla_force_host_platform_device_count=8',
    '--xla_backend_optimization_level=0',
    '--xla_llvm_disable_expensive_passes=true',
  ]
)
CACHE = os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR', str(pathlib.Path(tempfile.gettempdir()) / f'lh_jax_test_xla_{os.getuid()}')
)

import jax
import numpy as np
import pytest

from lh_jax import networks as networks_lib
from lh_jax import planning

ROOT = pathlib.Path(__file__).resolve().parents[1]

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_compilation_cache_dir', CACHE)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
jax.config.update('jax_remove_custom_partitioning_ptr_from_cache_key', True)


@pytest.fixture(scope='session', autouse=True)
def eight_devices():
  """Sharding tests on fewer devices would pass without testing anything."""
  assert jax.device_count() == 8, jax.devices()


@pytest.fixture(scope='module', autouse=True)
def free_compiled_programs():
  """Keeps memory flat: the persistent cache gives back what another module needs again."""
  yield
  jax.clear_caches()


@pytest.fixture(scope='module')
def windows_of_any_size():
  """Lets images of a few cells have tiles."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(planning, 'MIN_CELLS', 1)
    yield


def tiny_config():
  """A configuration whose networks compile in seconds; the shape of configs/base.py."""
  base = runpy.run_path(str(ROOT / 'configs' / 'base.py'))
  config = base['get_config']()
  config.vae.preset = 'tiny'
  config.restorer.update({'dims': (8, 8, 8), 'blocks': (1, 1, 1)})
  config.lora.rank = 2
  config.discriminator.features = 4
  config.foundation.name = 'tiny_vgg'
  config.losses.equivariance_scales = (0.5,)
  config.data.tasks = ('low_light', 'noise25')
  config.data.task_weights = (1.0, 1.0)
  config.stage1.update({'steps': 4, 'batch_size': 8, 'crop_size': 32})
  config.stage2.update({'restorer_steps': 2, 'lora_steps': 4, 'alternate_steps': 2, 'batch_size': 8, 'crop_size': 32})
  for section in config.optim.values():
    section.update({'learning_rate': 1e-3, 'warmup_steps': 0})
  config.train.update({'log_steps': 1, 'image_steps': 100, 'checkpoint_steps': 2, 'tensorboard': False})
  config.evaluate.tasks = ('noise25',)
  return config


@pytest.fixture(name='tiny_config')
def _tiny_config():
  return tiny_config()


def tiny_model(seed: int = 0, **sections):
  """Networks and parameters of the tiny configuration in which every part does something.

  Args:
    seed: of the parameters.
    **sections: changes to sections of the configuration, for example vae={'norm': 'group'}.
  """
  config = tiny_config()
  for name, changes in sections.items():
    config[name].update(changes)
  networks = networks_lib.build({name: config[name].to_dict() for name in networks_lib.SECTIONS})
  key = jax.random.key(seed)
  params = jax.device_get(jax.jit(networks.init)(key))
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(seed)
  params = jax.tree.unflatten(tree, [leaf + 0.05 * rng.standard_normal(leaf.shape, np.float32) for leaf in leaves])
  params['latent']['std'] = np.abs(params['latent']['std'])
  # Mid-grey, so that clipping hides nothing.
  head = params['vae']['decoder']['conv_out']
  head.update(kernel=0.1 * head['kernel'], bias=np.full_like(head['bias'], 0.5))
  params['restorer_stats'] = jax.tree.map(np.abs, params['restorer_stats'])
  return networks, params
