"""The tolerances of `lh_jax.metrics` at full size, 3840 x 2160, against scikit-image and float64."""

import sys

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from lh_jax import metrics
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import bench_metrics  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(name='images', scope='module')
def _images():
  return bench_metrics.pair(2160, 3840)


def test_psnr_and_ssim(images):
  scores = metrics.evaluate_pair(*images)
  rgb = [image.astype(np.float64) for image in images]
  luma = [16 + image @ np.array([65.481, 128.553, 24.966])[:, None] / 255 for image in rgb]
  window = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False}
  for name, (a, b) in (('rgb', rgb), ('y', luma)):
    psnr = 10 * np.log10(255**2 / np.mean((a - b) ** 2))
    ssim = structural_similarity(a, b, data_range=255, channel_axis=-1, **window)
    np.testing.assert_allclose(scores[f'psnr_{name}'], psnr, atol=2e-5)
    np.testing.assert_allclose(scores[f'ssim_{name}'], ssim, atol=2e-5)


def test_ciede2000(images):
  expected = deltaE_ciede2000(*(rgb2lab(image) for image in images)).mean()
  np.testing.assert_allclose(metrics.ciede2000(*images), expected, atol=1e-5)
