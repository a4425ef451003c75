"""JPEG on the device against Pillow's codec (libjpeg-turbo)."""

import io

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from lh_jax.data import sources
from lh_jax.ops import jpeg


@pytest.fixture(scope='module')
def photograph() -> np.ndarray:
  return sources.embedded(split='test')[0]['clean'][60:190, 120:280]


def _pillow(image: np.ndarray, quality: int) -> tuple[np.ndarray, dict]:
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'JPEG', quality=quality, subsampling='4:2:0')
  decoded = Image.open(file)
  return np.asarray(decoded), decoded.quantization


def _ours(images: np.ndarray, quality) -> np.ndarray:
  return np.asarray(jax.jit(jpeg.jpeg)(jnp.asarray(images, jnp.float32) / 255, jnp.asarray(quality))) * 255


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
  return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize('quality', [1, 10, 37, 49, 50, 75, 95, 100])
def test_tables_are_pillows(quality):
  _, tables = _pillow(np.zeros((16, 16, 3), np.uint8), quality)
  # The file holds luminance first, and Pillow gives the values row by row.
  for number, base in enumerate([jpeg.LUMINANCE_TABLE, jpeg.CHROMINANCE_TABLE]):
    ours = np.asarray(jpeg.quantization_table(base, jnp.array([quality])))[0]
    np.testing.assert_array_equal(ours.ravel(), tables[number])


@pytest.mark.parametrize('quality', [10, 30, 50, 75, 95])
@pytest.mark.parametrize('size', [(128, 160), (101, 77)])
def test_pixels_are_close_to_pillows(photograph, quality, size):
  image = photograph[: size[0], : size[1]]
  theirs, _ = _pillow(image, quality)
  ours = _ours(image[None], [quality])[0]
  # The codecs differ by rounding (integer transforms there), far less than either differs from the image.
  assert _psnr(ours, theirs) > 42.0
  assert abs(_psnr(ours, image) - _psnr(theirs, image)) < 0.15


@pytest.mark.parametrize('size', [(8, 8), (1, 1), (17, 9)])
def test_any_size_range_and_levels(size):
  image = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)
  ours = _ours(image, [20, 90])
  assert ours.shape == image.shape
  assert ours.min() >= 0 and ours.max() <= 255
  np.testing.assert_allclose(ours, np.round(ours), atol=1e-4)


def test_lower_quality_is_worse_and_each_image_has_its_own(photograph):
  qualities = [95, 80, 60, 40, 20, 5]
  batch = np.broadcast_to(photograph, (len(qualities), *photograph.shape))
  ours = _ours(batch, qualities)
  scores = [_psnr(image, photograph) for image in ours]
  assert scores == sorted(scores, reverse=True)
  np.testing.assert_array_equal(_ours(photograph[None], [40])[0], ours[3])


def test_jit_is_no_jit(photograph):
  images, quality = jnp.asarray(photograph[None, :40, :40], jnp.float32) / 255, jnp.array([50.0])
  np.testing.assert_allclose(jpeg.jpeg(images, quality), jax.jit(jpeg.jpeg)(images, quality), atol=2.01 / 255)
