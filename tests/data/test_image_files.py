"""Image files: bare pixels in and out, rounding, and lists of files; `test_photos` has all that a photograph brings."""

import numpy as np
from PIL import Image
import pytest

from lh_jax.data import image_files


@pytest.fixture(scope='module')
def pixels() -> np.ndarray:
  """Smooth colours of one quadrant each, so that lossy formats keep them: (32, 48, 3)."""
  corners = np.array([[[250, 20, 30], [20, 240, 40]], [[30, 40, 230], [200, 200, 20]]], np.uint8)
  return corners.repeat(16, axis=0).repeat(24, axis=1)


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.jpeg', '.webp', '.tif', '.TIFF', '.PNG'])
def test_write_then_read(tmp_path, pixels, suffix):
  path = tmp_path / 'new' / 'folder' / f'bild ü{suffix}'
  image_files.write_image(path, pixels)
  read = image_files.read_rgb(path)
  assert read.dtype == np.uint8 and read.shape == pixels.shape == (*image_files.size(path), 3)
  np.testing.assert_allclose(read[8::16, 12::24].astype(int), pixels[8::16, 12::24], atol=8 if suffix[1] in 'jw' else 0)
  assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_png_is_lossless_and_grey_can_be_written(tmp_path):
  noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
  image_files.write_image(tmp_path / 'a.png', noise)
  np.testing.assert_array_equal(image_files.read_rgb(tmp_path / 'a.png'), noise)
  image_files.write_image(tmp_path / 'b.png', noise[..., 0])
  np.testing.assert_array_equal(image_files.read_rgb(tmp_path / 'b.png'), noise[..., :1].repeat(3, axis=2))


@pytest.mark.parametrize('mode', ['L', '1', 'LA', 'P', 'RGBA', 'CMYK', 'I;16'])
def test_pixel_types(tmp_path, pixels, mode):
  path = tmp_path / ('x.tif' if mode == 'CMYK' else 'x.png')
  if mode == 'I;16':
    grey = np.arange(32 * 48, dtype=np.uint16).reshape(32, 48) * 40
    Image.fromarray(grey).save(path)
    expected = grey[..., None].repeat(3, axis=2)
  else:
    image = Image.fromarray(pixels)
    image = image.quantize(8) if mode == 'P' else image.convert(mode)
    if mode == 'RGBA':
      image.putalpha(0)  # dropped, not blended: what is transparent keeps its colour
    image.save(path)
    expected = np.array(image.convert('RGB'))
  read = image_files.read_rgb(path)
  assert read.dtype == expected.dtype
  np.testing.assert_array_equal(read, expected)


def test_a_palette_with_transparency_needs_no_warning(tmp_path, pixels):
  Image.fromarray(pixels).quantize(8).save(tmp_path / 'x.png', transparency=b'\x00\x80')
  np.testing.assert_allclose(image_files.read_rgb(tmp_path / 'x.png'), pixels, atol=2)


def test_write_errors_leave_nothing_behind(tmp_path, pixels):
  with pytest.raises(ValueError, match=r"cannot write .*suffix '.gif' is not one of .png, .jpg, .jpeg, .webp"):
    image_files.write_image(tmp_path / 'x.gif', pixels)
  with pytest.raises(ValueError, match='pixels are float64, not uint8 or uint16; see to_uint8'):
    image_files.write_image(tmp_path / 'x.png', pixels / 255)
  with pytest.raises(ValueError, match=r'shape \(32, 48, 4\) is not'):
    image_files.write_image(tmp_path / 'x.png', np.zeros((32, 48, 4), np.uint8))
  (tmp_path / 'x.png').mkdir()  # in the way of the final rename
  with pytest.raises(OSError):
    image_files.write_image(tmp_path / 'x.png', pixels)
  assert [p.name for p in tmp_path.iterdir()] == ['x.png']


def test_to_uint8_rounds_half_up_and_clips():
  values = np.array([-1.0, 0.0, 0.49 / 255, 0.5 / 255, 1.5 / 255, 254.51 / 255, 1.0, 7.0])
  assert image_files.to_uint8(values).tolist() == [0, 0, 0, 1, 2, 255, 255, 255]
  levels = np.arange(256, dtype=np.uint8)
  np.testing.assert_array_equal(image_files.to_uint8(levels / np.float32(255)), levels)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_to_uint8_refuses_what_is_not_finite(value):
  with pytest.raises(ValueError, match=r'shape \(1, 2\) holds values that are not finite'):
    image_files.to_uint8(np.array([[0.5, value]]))


def test_list_images(tmp_path):
  for name in ('b.png', 'a/z.JPG', 'a/c.webp', '.hidden.png', '.dir/x.png', 'notes.txt', 'a/.x.png.1.tmp'):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
  names = [p.relative_to(tmp_path).as_posix() for p in image_files.list_images(tmp_path)]
  assert names == ['a/c.webp', 'a/z.JPG', 'b.png']
  with pytest.raises(FileNotFoundError, match="image folder '.*none' does not exist"):
    image_files.list_images(tmp_path / 'none')
  with pytest.raises(FileNotFoundError, match="image folder '.*b.png' is not a folder"):
    image_files.list_images(tmp_path / 'b.png')
