"""Image files: every pixel type and orientation in, whole files out, and errors that name the file."""

import re

import numpy as np
from PIL import Image
import pytest

from lh_jax.data import image_files


@pytest.fixture(scope='module')
def pixels() -> np.ndarray:
  """Smooth colours of one quadrant each, so that lossy formats keep them: (32, 48, 3)."""
  corners = np.array([[[250, 20, 30], [20, 240, 40]], [[30, 40, 230], [200, 200, 20]]], np.uint8)
  return corners.repeat(16, axis=0).repeat(24, axis=1)


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.jpeg', '.webp', '.PNG'])
def test_write_then_read(tmp_path, pixels, suffix):
  path = tmp_path / 'new' / 'folder' / f'bild ü{suffix}'
  image_files.write_image(path, pixels)
  read = image_files.read_rgb(path)
  assert read.dtype == np.uint8 and read.shape == pixels.shape == (*image_files.size(path), 3)
  np.testing.assert_allclose(read[8::16, 12::24].astype(int), pixels[8::16, 12::24], atol=0 if 'p' == suffix[1] else 8)
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


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'webp', 'tif'])
@pytest.mark.parametrize(
  ('orientation', 'upright'),
  [
    (1, lambda x: x),
    (2, lambda x: x[:, ::-1]),
    (3, lambda x: x[::-1, ::-1]),
    (4, lambda x: x[::-1]),
    (5, lambda x: x.swapaxes(0, 1)),
    (6, lambda x: np.rot90(x, -1)),
    (7, lambda x: x[::-1, ::-1].swapaxes(0, 1)),
    (8, np.rot90),
  ],
)
def test_exif_orientation(tmp_path, pixels, suffix, orientation, upright):
  path = tmp_path / f'x.{suffix}'
  exif = Image.Exif()
  exif[0x0112] = orientation
  Image.fromarray(pixels).save(path, exif=exif)
  read, expected = image_files.read_rgb(path), upright(pixels)
  assert read.shape == expected.shape and image_files.size(path) == expected.shape[:2]
  np.testing.assert_allclose(read[4::8, 4::8].astype(int), expected[4::8, 4::8], atol=30)


def test_damaged_exif_data_do_not_matter(tmp_path, pixels):
  Image.fromarray(pixels).save(tmp_path / 'x.jpg', exif=b'Exif\x00\x00garbage that is no TIFF header')
  assert image_files.size(tmp_path / 'x.jpg') == image_files.read_rgb(tmp_path / 'x.jpg').shape[:2] == (32, 48)


def test_missing_file(tmp_path):
  for read in (image_files.read_rgb, image_files.size):
    with pytest.raises(FileNotFoundError, match=re.escape(f'{str(tmp_path / "no.png")!r} does not exist')):
      read(tmp_path / 'no.png')


def test_not_an_image(tmp_path):
  (tmp_path / 'text.png').write_text('hello')
  for read in (image_files.read_rgb, image_files.size):
    with pytest.raises(ValueError, match=r"cannot read image file '.*text\.png'"):
      read(tmp_path / 'text.png')


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'webp', 'tif'])
def test_truncated_file(tmp_path, suffix):
  noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
  path = tmp_path / f'whole.{suffix}'
  Image.fromarray(noise).save(path)
  cut = tmp_path / f'cut.{suffix}'
  cut.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
  with pytest.raises(ValueError, match=rf"cannot (read|decode) image file '.*cut\.{suffix}': "):
    image_files.read_rgb(cut)


def test_float_pixels_are_not_guessed_at(tmp_path):
  Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / 'x.tif')
  with pytest.raises(ValueError, match=r"x\.tif.*pixel type 'F' is not supported; save it with 8 or 16 bits"):
    image_files.read_rgb(tmp_path / 'x.tif')


def test_write_errors_leave_nothing_behind(tmp_path, pixels):
  with pytest.raises(ValueError, match=r"cannot write .*suffix '.gif' is not one of .png, .jpg, .jpeg, .webp"):
    image_files.write_image(tmp_path / 'x.gif', pixels)
  with pytest.raises(ValueError, match='pixels are float64, not uint8; see to_uint8'):
    image_files.write_image(tmp_path / 'x.png', pixels / 255)
  with pytest.raises(ValueError, match=r'shape \(32, 48, 4\) is neither'):
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
