"""lh_jax.data.figures."""

import numpy as np
import pytest

from lh_jax.data import figures


def test_grid_holds_the_images_at_their_own_size():
  image = np.full((10, 20, 3), 77, np.uint8)
  sheet = figures.grid([figures.Row(title='a', images=(image, image))] * 3, titles=('x', 'y'))
  assert sheet.dtype == np.uint8 and (sheet == 77).all(axis=-1).sum() >= 6 * image.shape[0] * image.shape[1]


def test_a_note_stands_below_its_row():
  image = np.zeros((10, 200, 3), np.uint8)
  plain, noted = (
    figures.grid([figures.Row('a', (image,), note), figures.Row('b', (image,))], titles=('x',)) for note in ('', 'n')
  )
  line = noted.shape[0] - plain.shape[0]
  assert line > 10
  top = 4 + 18 + 10  # margin, title, image
  np.testing.assert_array_equal(noted[:top], plain[:top])
  assert (noted[top : top + line + 4] < 128).any()
  np.testing.assert_array_equal(noted[top + line + 4 :], plain[top + 4 :])


def test_errors():
  with pytest.raises(ValueError, match=r'rows of 2 images each, got \[1\]'):
    figures.grid([figures.Row(title='a', images=(np.zeros((4, 4, 3), np.uint8),))], titles=('x', 'y'))
