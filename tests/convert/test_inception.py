"""Conversion of FID's Inception network: what is taken; tests/models/test_inception.py has the rest."""

import numpy as np
import pytest

from lh_jax.convert import inception
from lh_jax.models import inception as network
from tests.parity import make_inception_golden as golden


def test_only_finite_floating_point_numbers_are_taken():
  like = network.abstract_variables()
  tensors = golden.recipe(golden.shapes(like))
  first = 'Conv2d_1a_3x3'
  tensors |= {
    f'{first}.conv.weight': tensors[f'{first}.conv.weight'].astype(np.int64),
    f'{first}.bn.running_var': tensors[f'{first}.bn.running_var'] * np.nan,
    f'{first}.bn.bias': np.float32(1).reshape(()),
    'fc.bias': np.float32(1).reshape(()),
  }
  with pytest.raises(ValueError) as error:
    inception.convert(tensors, like)
  assert sorted(str(error.value).splitlines()[1:]) == [
    f'  dtype: {first}.conv.weight is int64, expected floating-point numbers',
    f'  not finite: {first}.bn.running_var',
    f'  shape: {first}.bn.bias is (), expected (32,)',
    '  shape: fc.bias has 1 classes, expected 1008: FID needs the network of 2015',
  ]
