"""lh_jax.data.thumbnails: small, never enlarged, and looking where it is worst."""

import base64
import io

import numpy as np
from PIL import Image

from lh_jax.data import thumbnails


def test_shrunk_averages_and_never_enlarges():
  image = np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8)
  assert thumbnails.shrunk(image, 80) is image
  small = thumbnails.shrunk(image, 40)
  expected = image.reshape(20, 2, 40, 2, 3).mean((1, 3))
  assert small.shape == (20, 40, 3) and np.abs(small - expected).max() <= 1.0
  assert thumbnails.shrunk(image[:1], 10).shape == (1, 10, 3)


def test_window_moves_inward():
  image = np.arange(20 * 30 * 3, dtype=np.int64).reshape(20, 30, 3)
  np.testing.assert_array_equal(thumbnails.window(image, (0, 29), 8), image[:8, 22:])
  np.testing.assert_array_equal(thumbnails.window(image, (10, 15), 8), image[6:14, 11:19])
  np.testing.assert_array_equal(thumbnails.window(image, (10, 15), 25), image[:, 3:28])


def test_worst_place():
  reference = np.zeros((100, 70, 3), np.uint8)
  image = reference.copy()
  image[66:74, 33:39] = 200
  row, column = thumbnails.worst_place(image, reference, 16)
  assert (image != reference)[row - 8 : row + 8, column - 8 : column + 8].any()
  assert thumbnails.window(image, (row, column), 16).any()
  # At the end of a side that the grid does not divide.
  image = reference.copy()
  image[99, 69] = 255
  assert thumbnails.window(image, thumbnails.worst_place(image, reference, 40), 40).any()


def test_jpeg_keeps_colour_at_full_resolution():
  image = np.zeros((16, 16, 3), np.uint8)
  image[:, ::2] = (255, 0, 0)
  uri = thumbnails.data_uri(thumbnails.jpeg(image))
  head, data = uri.split(',')
  assert head == 'data:image/jpeg;base64'
  back = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
  assert np.abs(back.astype(int) - image).max() < 60  # halved, the chroma of the stripes would be lost
