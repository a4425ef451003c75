"""WebP: sizes from the three kinds of header, alpha, and the chunks around the pixels."""

import io

import numpy as np
from PIL import Image
import pytest

from lh_jax.data.formats import webp as webp_files

SMOOTH = np.asarray(
  Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 4, 4), dtype=np.uint8)).resize((61, 37))
)


def by_pillow(pixels, **options):
  stream = io.BytesIO()
  Image.fromarray(pixels).save(stream, 'WEBP', **options)
  return stream.getvalue()


def read(data):
  header = webp_files.read(io.BytesIO(data))
  pixels = header.decode()
  assert pixels.shape[:2] == (header.height, header.width)
  return header, pixels


def written(pixels, *, icc=None, exif=None, quality=95):
  stream = io.BytesIO()
  webp_files.write(stream, pixels, icc=icc, exif=exif, dpi=None, quality=quality)
  return stream.getvalue()


@pytest.mark.parametrize('channels', [3, 4])
@pytest.mark.parametrize(
  ('options', 'chunk'),
  [({'lossless': True, 'exact': True}, b'VP8L'), ({}, b'VP8 '), ({'lossless': True, 'exif': b'II*\0'}, b'VP8X')],
  ids=str,
)
def test_pillows_files(options, chunk, channels):
  data = by_pillow(SMOOTH[:, :, :channels], **options)
  assert data[12:16] == (chunk if channels == 3 or 'lossless' in options else b'VP8X')
  header, pixels = read(data)
  assert pixels.shape == (37, 61, channels) and header.notes == ()
  np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).convert('RGBA'))[:, :, :channels])


@pytest.mark.parametrize('size', [(1, 1), (300, 2), (2, 5000)])
@pytest.mark.parametrize('options', [{'lossless': True}, {}, {'exif': b'II*\0'}], ids=str)
def test_sizes(size, options):
  assert read(by_pillow(np.zeros((*size, 3), np.uint8), **options))[1].shape == (*size, 3)


def test_descriptions(icc, exif):
  header, _ = read(by_pillow(SMOOTH, icc_profile=icc(), exif=exif()))
  assert (header.icc, header.exif, header.dpi) == (icc(), exif(), None)


def test_animation():
  first = SMOOTH[:, :, :3]
  data = by_pillow(first, save_all=True, append_images=[Image.fromarray(255 - first)], lossless=True)
  header, pixels = read(data)
  np.testing.assert_array_equal(pixels, first)
  assert header.notes == ('animation: only its first picture read',)


@pytest.mark.parametrize('channels', [3, 4])
def test_write_then_read(channels, icc, exif):
  header, pixels = read(written(SMOOTH[:, :, :channels], icc=icc(), exif=exif()))
  assert (header.icc, header.exif) == (icc(), exif())
  assert pixels.shape[2] == channels
  np.testing.assert_array_equal(pixels[:, :, 3:], SMOOTH[:, :, 3:channels])
  assert np.abs(pixels.astype(int) - SMOOTH[:, :, :channels]).mean() < 4


def test_colours_under_full_transparency_stay():
  clear = SMOOTH.copy()
  clear[:, :, 3] = 0
  assert np.abs(read(written(clear))[1][:, :, :3].astype(int) - clear[:, :, :3]).mean() < 4


def test_quality_counts():
  assert len(written(SMOOTH, quality=30)) < len(written(SMOOTH, quality=95))


@pytest.mark.parametrize('options', [{'lossless': True}, {}, {'exif': b'II*\0'}], ids=str)
def test_cut_short_or_damaged(options):
  data = by_pillow(SMOOTH[:, :, :3], **options)
  for length in [*range(12, 40), *range(40, len(data), 31), len(data) - 1]:
    with pytest.raises(ValueError, match=f'it is cut short: its {length} bytes end inside a chunk'):
      read(data[:length])
  with pytest.raises(ValueError, match='its first chunk is not a WebP header'):
    read(data[:12] + b'JUNK' + data[16:])
  with pytest.raises(ValueError, match='its first chunk is not a WebP header'):
    read(b'RIFF\x04\0\0\0WEBP')


def test_what_libwebp_cannot_write(monkeypatch):
  def give_up(*args, **kwargs):
    raise ValueError('encoding error 6')

  monkeypatch.setattr(Image.Image, 'save', give_up)
  with pytest.raises(ValueError, match=r'WebP cannot hold it \(encoding error 6\); write it as PNG or TIFF'):
    written(SMOOTH)
