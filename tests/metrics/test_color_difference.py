import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from lh_jax import metrics


@pytest.mark.parametrize('noise', [2, 30])
def test_mean_is_that_of_scikit_image(noise):
  rng = np.random.default_rng(0)
  a = rng.integers(0, 256, (37, 53, 3), np.uint8)
  b = np.clip(a + rng.integers(-noise, noise + 1, a.shape), 0, 255).astype(np.uint8)
  expected = deltaE_ciede2000(rgb2lab(a), rgb2lab(b)).mean()
  ours = metrics.ciede2000(a, b)
  assert isinstance(ours, float)
  np.testing.assert_allclose(ours, expected, atol=1e-5)
  np.testing.assert_allclose(metrics.ciede2000(b, a), expected, atol=1e-5)


def test_equal_images_and_a_cast_that_luma_hides():
  grey = np.full((8, 9, 3), 128, np.uint8)
  assert metrics.ciede2000(grey, grey) == 0
  cast = grey + np.array([20, 0, 0], np.uint8) - np.array([0, 10, 0], np.uint8)
  assert metrics.evaluate_pair(np.tile(cast, (2, 2, 1)), np.tile(grey, (2, 2, 1)))['psnr_y'] > 50
  assert metrics.ciede2000(cast, grey) > 10


def test_errors():
  image = np.zeros((4, 5, 3), np.uint8)
  with pytest.raises(ValueError, match=r'ciede2000 got an image of float32 \(4, 5, 3\); it must be uint8 \(H, W, 3\)'):
    metrics.ciede2000(image, image.astype(np.float32))
  with pytest.raises(ValueError, match=r'ciede2000 got an image of uint8 \(4, 5\); it must be'):
    metrics.ciede2000(image[..., 0], image)
  with pytest.raises(ValueError, match=r'ciede2000 got a pair of sizes \(4, 5\) and \(3, 5\); they must be equal'):
    metrics.ciede2000(image, image[:3])
