import jax
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from lh_jax.ops import cielab

# Data of Sharma, Wu and Dalal (2005), Table 1: (L, a, b) twice, and the difference to four decimals.
SHARMA = np.array(
  [
    (50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425),
    (50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615),
    (50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412),
    (50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669),
    (50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461),
    (50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065),
    (50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492),
    (50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977),
    (50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030),
    (50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000),
    (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
    (63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630),
    (61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731),
    (35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645),
    (22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373),
    (36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146),
    (90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441),
    (90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381),
    (6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377),
    (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
  ]
)
# Where hues are opposite to four digits, the formula jumps between two values, and float32 cannot tell the sides.
OPPOSITE = slice(8, 15)


def test_published_pairs_in_float64():
  with jax.enable_x64(True):
    found = cielab.ciede2000(SHARMA[:, :3], SHARMA[:, 3:6])
    assert found.dtype == np.float64
  np.testing.assert_allclose(found, SHARMA[:, 6], atol=6e-5)


def test_published_pairs_in_float32():
  found = cielab.ciede2000(SHARMA[:, :3].astype(np.float32), SHARMA[:, 3:6].astype(np.float32))
  assert found.dtype == np.float32
  np.testing.assert_allclose(np.delete(found, OPPOSITE), np.delete(SHARMA[:, 6], OPPOSITE), atol=1e-4)


def test_lab_and_differences_are_those_of_scikit_image():
  rng = np.random.default_rng(0)
  a = rng.uniform(0, 1, (40, 41, 3))
  b = np.clip(a + rng.normal(0, 0.02, a.shape), 0, 1)
  a[0], b[0] = np.linspace(0, 1, 41)[:, None], np.linspace(0.001, 0.999, 41)[:, None]  # greys, black and white
  lab_a, lab_b = (cielab.srgb_to_lab(image.astype(np.float32)) for image in (a, b))
  np.testing.assert_allclose(lab_a, rgb2lab(a), atol=2e-4)
  np.testing.assert_allclose(cielab.ciede2000(lab_a, lab_b), deltaE_ciede2000(rgb2lab(a), rgb2lab(b)), atol=5e-4)


def test_white_and_black():
  lab = cielab.srgb_to_lab(np.array([[1, 1, 1], [0, 0, 0]], np.float32))
  np.testing.assert_allclose(lab, [[100, 0, 0], [0, 0, 0]], atol=1e-2)


def test_errors():
  with pytest.raises(ValueError, match=r'srgb_to_lab got an array of shape \(4, 2\); its last axis must be 3'):
    cielab.srgb_to_lab(np.zeros((4, 2)))
