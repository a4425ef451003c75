"""Every configuration builds, is locked, holds the paper's constants, and has no key that nothing reads."""

import re
import runpy

from ml_collections import ConfigDict
import pytest

from lh_jax import networks as networks_lib
from lh_jax import train
from lh_jax.data import sources
from lh_jax.stages import build

from tests.conftest import ROOT

CONFIGS = [
  ('base', None),
  ('quickstart', ''),
  ('quickstart', 'short'),
  ('uhd4', ''),
  ('uhd4', 'stage1'),
  ('uhd4', 'stage2'),
  ('uhd6', ''),
  ('uhd6', 'stage2'),
  *(('single', task) for task in ('low_light', 'blur', 'haze', 'noise25')),
  ('generalization', ''),
  ('bundled', 'cpu'),
  ('bundled', 'gpu'),
  *(
    ('ablations', name)
    for name in (
      'full',
      'no_invariance',
      'no_equivariance',
      'no_pdps',
      'no_fhf',
      'no_phf',
      'no_lora',
      'vae1',
      'vae2',
      'vae_lh_fe',
      'restorer_sfhformer',
      'restorer_nafnet',
      'restorer_restormer',
      'foundation_vgg16',
      'rank_4',
      'inv_0.4',
      'eqv_1',
    )
  ),
]


def load(name, arg=None):
  get_config = runpy.run_path(str(ROOT / 'configs' / f'{name}.py'))['get_config']
  return get_config() if arg is None else get_config(arg)


def test_every_file_is_listed():
  assert {path.stem for path in (ROOT / 'configs').glob('*.py')} == {name for name, _ in CONFIGS}


@pytest.mark.parametrize('name, arg', CONFIGS)
def test_builds(name, arg):
  config = load(name, arg)
  networks = networks_lib.build({section: config[section].to_dict() for section in networks_lib.SECTIONS})
  for stage in ('stage1', 'stage2'):
    assert build.build(stage, config, networks).total_steps > 0
  # The same fields everywhere: variants change values, never the set of keys.
  assert flat(config).keys() == flat(load('base')).keys()


def flat(config, prefix=''):
  found = {}
  for name, value in config.items():
    found |= flat(value, f'{prefix}{name}.') if isinstance(value, ConfigDict) else {f'{prefix}{name}': value}
  return found


@pytest.mark.parametrize('name', ['quickstart', 'uhd4', 'uhd6', 'single', 'generalization', 'ablations', 'bundled'])
def test_unknown_argument(name):
  with pytest.raises(ValueError, match="Unknown argument 'fast'"):
    load(name, 'fast')


@pytest.mark.parametrize('scale', ['cpu', 'gpu'])
def test_what_the_bundled_recipe_draws_holds_its_crops(scale):
  config = load('bundled', scale)
  networks = networks_lib.build({section: config[section].to_dict() for section in networks_lib.SECTIONS})
  crops = [stretch.crop_size for name in build.STAGES for stretch in build.build(name, config, networks).stretches]
  ours = '+'.join(part for part in config.data.source.split('+') if part != 'folder')
  items = sources.build(ours, painted=config.data.dead_leaves.to_dict()).items
  assert max(crops) <= min(min(item.height, item.width) for item in items)


def test_the_papers_constants():
  config = load('base')
  assert config.losses.invariance == 0.8 and config.losses.equivariance == 0.6  # Supp. D.4
  assert (config.stage1.steps, config.stage1.batch_size) == (64_000, 16)  # Supp. B.2
  assert (
    config.stage2.restorer_steps + config.stage2.lora_steps == 32_000 and config.stage2.batch_size == 8
  )  # Supp. B.2
  assert config.stage2.alternate_steps == 10  # Supp. B.2
  assert config.foundation.name.startswith('dinov2')  # Supp. Table 5
  assert load('uhd4').data.tasks == ('low_light', 'haze', 'blur', 'noise15', 'noise25', 'noise50')  # Table 1
  assert {'rain', 'snow'} <= set(load('uhd6').data.tasks)  # Table 2


@pytest.mark.parametrize(
  'variant, changes',
  [
    ('full', {}),
    ('no_invariance', {'losses.invariance': 0.0}),
    ('no_equivariance', {'losses.equivariance': 0.0}),
    ('no_pdps', {'pdps.probabilities': (1.0, 0.0, 0.0)}),
    ('no_fhf', {'stage2.lora_phases': ('decoder_lora',), 'stage2.lora_steps': 4_000}),
    ('no_phf', {'stage2.lora_phases': ('encoder_lora',), 'stage2.lora_steps': 4_000}),
    ('no_lora', {'stage2.lora_steps': 0}),
    ('restorer_nafnet', {'restorer.name': 'nafnet'}),
    ('foundation_vgg16', {'foundation.name': 'vgg16'}),
    (
      'vae_lh_fe',
      {'vae.preset': 'lh_fe', 'restorer.dims': (24,), 'restorer.blocks': (3,), 'lora.min_kernel': 1},
    ),
    ('rank_4', {'lora.rank': 4, 'lora.alpha': 4.0}),
    ('inv_0.4', {'losses.invariance': 0.4}),
    ('eqv_1', {'losses.equivariance': 1.0}),
  ],
)
def test_an_ablation_changes_one_thing(variant, changes):
  """Table 5a, Supp. Table 5, Supp. Fig. 7: the four-degradation setting and nothing else that differs."""
  before, after = flat(load('uhd4', '')), flat(load('ablations', variant))
  assert {name: value for name, value in after.items() if value != before[name]} == changes


@pytest.mark.parametrize('variant', ['rank_0', 'rank_x', 'inv_', 'eqv_-1', 'restorer_', 'vae3'])
def test_unknown_ablation(variant):
  with pytest.raises(ValueError, match='Unknown argument .*known: full, no_invariance'):
    load('ablations', variant)


def test_bare_vaes():
  """VAE1 and VAE2 (Supp. B.2) are trained to reconstruct only."""
  for name, factor, channels, kl in (('vae1', 32, 8, 1e-4), ('vae2', 8, 32, 1e-8)):
    config = load('ablations', name)
    preset = networks_lib.build({s: config[s].to_dict() for s in networks_lib.SECTIONS}).vae.preset
    assert (preset.factor, preset.latent_channels, preset.kl_weight) == (factor, channels, kl)
    assert not config.losses.invariance and not config.losses.equivariance
    assert config.pdps.probabilities == (1.0, 0.0, 0.0)


def test_no_key_is_dead(tmp_path, tiny_config):
  """A section that is splatted into a constructor has no dead key: an unknown one is a TypeError. The others' keys are
  read by name, off the section, in the file that owns it.
  """
  readers = {'data': 'train', 'train': 'train', 'evaluate': 'evaluate', 'restore': 'restore'}
  for section, module in readers.items():
    text = (ROOT / 'lh_jax' / f'{module}.py').read_text() + (ROOT / 'lh_jax' / 'main.py').read_text()
    for key in tiny_config[section]:
      names = rf"(config\.{section}|settings|data)\.{key}\b|'({section}\.)?{key}'"
      assert re.search(names, text), f'{section}.{key} is read nowhere'
  # The other sections are splatted: an unknown key is a TypeError.
  for section in (
    'vae',
    'restorer',
    'lora',
    'discriminator',
    'losses',
    'pdps',
    'stage1',
    'stage2',
    'mesh',
    'optim.restorer',
    'optim.stage1',
  ):
    config = tiny_config.copy_and_resolve_references()
    with config.unlocked():
      config.update_from_flattened_dict({f'{section}.no_such_key': 1})
    with pytest.raises(TypeError, match='no_such_key'):
      train.train(config, tmp_path / section)
