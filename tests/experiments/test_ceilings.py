"""`experiments/ceilings.py`: what is measured of a VAE."""

import sys

import numpy as np

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import ceilings  # noqa: E402


def test_more_channels_keep_more():
  photograph = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
  found = [ceilings.ceiling(ceilings.untrained(count), [photograph]) for count in (16, 96, 192)]
  assert found[0] < found[1] < 40 and found[2] == np.inf
