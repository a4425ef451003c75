"""lh_jax.exports: round trip and everything that can be wrong with a folder."""

import json

import jax
import numpy as np
import pytest

from lh_jax import exports
from lh_jax import networks as networks_lib
from lh_jax import weight_files


@pytest.fixture(name='export')
def _export(tiny_config):
  sections = {name: tiny_config[name].to_dict() for name in networks_lib.SECTIONS}
  params = jax.device_get(jax.jit(networks_lib.build(sections).init)(jax.random.key(0)))
  return exports.Export(sections=sections, params=params, stage='stage2')


def test_round_trip(tmp_path, export):
  exports.save(tmp_path / 'export', export)
  for path in (tmp_path, tmp_path / 'export'):
    loaded = exports.load(path)
    assert loaded.stage == 'stage2'
    assert jax.tree.structure(loaded.params) == jax.tree.structure(export.params)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, export.params)
    assert networks_lib.build(loaded.sections) == networks_lib.build(export.sections)


def test_a_part_without_arrays_comes_back(tmp_path, tiny_config):
  tiny_config.restorer.norm = 'layer'
  sections = {name: tiny_config[name].to_dict() for name in networks_lib.SECTIONS}
  params = jax.device_get(jax.jit(networks_lib.build(sections).init)(jax.random.key(0)))
  assert params['restorer_stats'] == {}
  exports.save(tmp_path, exports.Export(sections=sections, params=params, stage='stage2'))
  assert exports.load(tmp_path).params['restorer_stats'] == {}


def test_stage1_export_has_the_vae_only(tmp_path, export):
  params = {name: export.params[name] for name in networks_lib.STAGE1_PARTS}
  exports.save(tmp_path, exports.Export(sections=export.sections, params=params, stage='stage1'))
  assert set(exports.load(tmp_path).params) == set(networks_lib.STAGE1_PARTS)


def test_nothing_there(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no export: name a work directory of a finished training run'):
    exports.load(tmp_path)


@pytest.mark.parametrize('config', ['{"format": 1', '[]', '{"format": 1}'])
def test_damaged_configuration(tmp_path, export, config):
  weight_files.save(tmp_path / 'params.safetensors', export.params, {'config': config})
  with pytest.raises(ValueError, match='is no export: its metadata holds no export configuration'):
    exports.load(tmp_path)


def test_other_format(tmp_path, export):
  exports.save(tmp_path, export)
  config = json.loads((tmp_path / 'config.json').read_text()) | {'format': 99}
  weight_files.save(tmp_path / 'params.safetensors', export.params, {'config': json.dumps(config)})
  with pytest.raises(ValueError, match='export format 99, this version reads 1'):
    exports.load(tmp_path)


def test_stage_of(tmp_path, export):
  assert exports.stage_of(tmp_path) is None
  exports.save(tmp_path, export)
  assert exports.stage_of(tmp_path) == 'stage2'


def test_parameters_of_another_model(tmp_path, export):
  exports.save(tmp_path, export)
  params = dict(export.params)
  del params['latent']
  metadata = {'config': (tmp_path / 'config.json').read_text()}
  weight_files.save(tmp_path / 'params.safetensors', params, metadata)
  with pytest.raises(ValueError, match='latent/mean'):
    exports.load(tmp_path)
