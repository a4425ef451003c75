"""Published restorers on pixels: their sizes; values are in tests/test_golden.py."""

import functools

import jax
import numpy as np
import pytest

from lh_jax.models import restorers
from lh_jax.models import summary
from lh_jax.models.restorers import pixel

from tests.conftest import ROOT


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
