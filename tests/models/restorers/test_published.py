"""Restorers against spandrel's NAFNet and Restormer and the authors' SFHformer (golden values), and published sizes."""

import functools
import json

import jax
import numpy as np
import pytest

from lh_jax.convert import restorers as converter
from lh_jax.models import restorers
from lh_jax.models import summary
from lh_jax.models.restorers import pixel

from tests.conftest import ROOT
from tests.parity import make_restorers_golden as recipe


@pytest.fixture(scope='module')
def golden():
  """Values made by tests/parity/make_restorers_golden.py, which names the versions."""
  with np.load(recipe.FIXTURE) as file:
    return dict(file)


@functools.cache
def converted(name, shapes):
  module = restorers.build(**recipe.NETWORKS[name], channels=3)
  return module, converter.convert(recipe.weights(json.loads(shapes)), module)


@pytest.mark.parametrize('size', recipe.SIZES)
@pytest.mark.parametrize('name', recipe.NETWORKS)
def test_equals_the_independent_implementation(name, size, golden):
  module, variables = converted(name, str(golden[f'{name}/shapes']))
  apply = jax.jit(functools.partial(module.apply, train=False, capture_intermediates=True))
  output, state = apply(variables, recipe.image(size))
  found = {key: value['__call__'][0] for key, value in state['intermediates'].items() if '_block' in key}
  found['output'] = output
  prefix = f'{name}/{size[0]}x{size[1]}/'
  expected = {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}
  assert found.keys() == expected.keys()
  for key, value in expected.items():
    np.testing.assert_allclose(found[key], value, atol=1e-4 * np.abs(value).max(), err_msg=key)


def sizes(module, side=256):
  image = jax.ShapeDtypeStruct((1, side, side, module.channels), np.float32)
  variables = pixel.abstract_variables(module)
  cost = summary.multiply_adds(functools.partial(module.apply, train=False), variables, image)
  return summary.parameters(variables['params']), cost / 1e9


@pytest.mark.parametrize(
  'name, parameters, giga',
  [
    # 17.11 M and 16.0 G in Chen et al. 2022.
    ('nafnet_gopro_width32', 17_111_907, 15.96),
    # 26.13 M and 141.0 G in Zamir et al. 2022.
    ('restormer_deraining', 26_126_644, 140.99),
    # 7.61 M and 49.9 G in Jiang et al. 2024.
    ('sfhformer_l', 7_612_069, 49.91),
  ],
)
def test_published_sizes(name, parameters, giga):
  found, cost = sizes(pixel.build(name))
  assert found == parameters and cost == pytest.approx(giga, abs=0.005)


@pytest.mark.parametrize(
  'name, parameters',
  [
    ('nafnet_gopro_width64', 67_888_835),
    ('nafnet_sidd_width32', 29_159_715),
    ('nafnet_sidd_width64', 115_982_915),
    ('restormer_real_denoising', 26_111_668),
    ('sfhformer_t', 1_527_369),
  ],
)
def test_parameters_of_the_other_forms(name, parameters):
  assert summary.parameters(pixel.abstract_variables(pixel.build(name))['params']) == parameters


# Latents of 256x256 images; products of activations, which are 0.036 G of Restormer, are not counted.
@pytest.mark.parametrize(
  'name, parameters, giga', [('sfhformer', 601_959, 0.190), ('nafnet', 641_552, 0.185), ('restormer', 622_169, 0.330)]
)
def test_latent_presets_have_one_budget(name, parameters, giga):
  found, cost = sizes(restorers.build(name), side=32)
  assert found == parameters and cost == pytest.approx(giga, abs=0.0005)
  readme = (ROOT / 'README.md').read_text(encoding='utf-8')
  assert f'{parameters:,}'.replace(',', ' ') + f' | {giga:.3f} G' in readme


def test_unknown_network():
  with pytest.raises(ValueError, match="unknown pixel-space network 'swinir'; known networks: nafnet_gopro_width32"):
    pixel.build('swinir')
