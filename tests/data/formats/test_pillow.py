"""JPEG, BMP and PPM: the modes, what stands in JPEG's segments, and files that are no longer whole."""

import io
import struct

import numpy as np
from PIL import Image
import pytest

from lh_jax.data.formats import pillow

NOISE = np.random.default_rng(0).integers(0, 256, (31, 47, 4), dtype=np.uint8)
SMOOTH = np.asarray(Image.fromarray(NOISE[:3, :4]).resize((64, 48)))


def file(image, kind, **options):
  stream = io.BytesIO()
  image.save(stream, kind, **options)
  return stream.getvalue()


def read(data, reader=pillow.read_jpeg):
  header = reader(io.BytesIO(data))
  pixels = header.decode()
  assert pixels.shape[:2] == (header.height, header.width)
  return header, pixels


def written(pixels, *, icc=None, exif=None, dpi=None, quality=95):
  stream = io.BytesIO()
  notes = pillow.write_jpeg(stream, pixels, icc=icc, exif=exif, dpi=dpi, quality=quality)
  return stream.getvalue(), notes


@pytest.mark.parametrize('mode', ['L', 'RGB', 'CMYK'])
@pytest.mark.parametrize('progressive', [False, True])
def test_jpeg(mode, progressive):
  image = Image.fromarray(SMOOTH[:, :, :3]).convert(mode)
  data = file(image, 'JPEG', progressive=progressive, quality=95, subsampling=0)
  header, pixels = read(data)
  assert header.cmyk == (mode == 'CMYK') and header.notes == ()
  assert np.abs(pixels.astype(int) - np.asarray(image).reshape(pixels.shape)).mean() < 2


def test_jpeg_descriptions(icc, exif):
  image = Image.fromarray(SMOOTH[:, :, :3])
  header, _ = read(file(image, 'JPEG', icc_profile=icc(size=200000), exif=b'Exif\0\0' + exif(), dpi=(300, 150)))
  assert (header.icc, header.exif, header.dpi) == (icc(size=200000), b'Exif\0\0' + exif(), (300, 150))
  header, _ = read(file(image, 'JPEG'))
  assert (header.icc, header.exif, header.dpi) == (None, None, None)
  data = file(image, 'JPEG', dpi=(100, 50))
  unit = data.index(b'JFIF\0') + 7
  assert read(data[:unit] + b'\x02' + data[unit + 1 :])[0].dpi == (254, 127)  # dots per centimetre


def test_a_profile_with_a_missing_part_is_dropped(icc):
  data = file(Image.fromarray(SMOOTH[:, :, :3]), 'JPEG', icc_profile=icc(size=200000))
  second = data.index(b'ICC_PROFILE\0\x02')
  header, _ = read(data[:second] + b'XXX' + data[second + 3 :])
  assert header.icc is None and header.notes == ('damaged colour profile dropped',)


def test_several_pictures_in_a_jpeg():
  stream = io.BytesIO()
  first = Image.fromarray(SMOOTH[:, :, :3])
  first.save(stream, 'MPO', save_all=True, append_images=[Image.fromarray(255 - SMOOTH[:, :, :3])])
  header, pixels = read(stream.getvalue())
  assert header.notes == ('several pictures in the file: only the first read',)
  assert np.abs(pixels.astype(int) - SMOOTH[:, :, :3]).mean() < 5


def test_damaged_exif_gives_no_warning(exif):
  """Warnings are errors here; Pillow's own look into EXIF would give some of these."""
  block = bytearray(exif())
  image = Image.fromarray(SMOOTH[:, :, :3])
  for place in range(8, 130, 3):
    damaged = block.copy()
    damaged[place] = 0xFF
    data = file(image, 'JPEG', exif=b'Exif\0\0' + bytes(damaged))
    start = data.index(b'JFIF') - 4
    read(data[:start] + data[start + 18 :])  # without JFIF, whose resolution would do


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGB'])
def test_bmp(mode):
  image = Image.fromarray(NOISE).convert('RGB').quantize(9) if mode == 'P' else Image.fromarray(NOISE).convert(mode)
  header, pixels = read(file(image, 'BMP'), pillow.read_bmp)
  expected = np.asarray(image.convert({'1': 'L', 'P': 'RGB'}.get(mode, mode)))
  np.testing.assert_array_equal(pixels, expected.reshape(pixels.shape))
  notes = {'1': ('1-bit pixels read as 8-bit',), 'P': ('palette converted to RGB',)}
  assert header.notes == notes.get(mode, ())


def test_ppm():
  for mode in ('1', 'L', 'RGB'):
    image = Image.fromarray(NOISE[:, :, :3]).convert(mode)
    _, pixels = read(file(image, 'PPM'), pillow.read_ppm)
    np.testing.assert_array_equal(pixels, np.asarray(image.convert('L' if mode == '1' else mode)).reshape(pixels.shape))
  deep = np.random.default_rng(0).integers(0, 65536, (5, 6, 3), dtype=np.uint16)
  header, pixels = read(b'P5 6 5 65535\n' + deep[:, :, 0].astype('>u2').tobytes(), pillow.read_ppm)
  np.testing.assert_array_equal(pixels[:, :, 0], deep[:, :, 0])
  assert pixels.dtype == np.uint16 and header.notes == ()
  header, pixels = read(b'P6 6 5 65535\n' + deep.astype('>u2').tobytes(), pillow.read_ppm)
  assert np.abs(pixels - deep / 257).max() <= 1
  assert header.notes == ('16-bit colours read with 8 bits: save it as PNG or TIFF to keep them',)
  _, pixels = read(b'P3 2 1 255\n1 2 3 4 5 6\n', pillow.read_ppm)
  assert pixels.tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_what_is_not_read():
  with pytest.raises(ValueError, match="pixel type 'F' is not supported; save it with 8 or 16 bits a channel"):
    read(b'Pf 2 1 -1.0\n' + struct.pack('<ff', 0, 1), pillow.read_ppm)


@pytest.mark.parametrize('channels', [1, 3])
def test_write_then_read(channels, icc, exif):
  pixels = SMOOTH[:, :, :channels]
  data, notes = written(pixels, icc=icc(size=100000), exif=exif(), dpi=(240, 240))
  header, again = read(data)
  assert notes == [] and again.shape == pixels.shape
  assert (header.icc, header.exif, header.dpi) == (icc(size=100000), b'Exif\0\0' + exif(), (240, 240))
  assert np.abs(again.astype(int) - pixels).mean() < 2
  with Image.open(io.BytesIO(data)) as image:
    assert image.mode == ('L' if channels == 1 else 'RGB')
    assert image.getexif()[0x010F] == 'A camera'


def test_quality_and_subsampling():
  by_quality = {quality: written(NOISE[:, :, :3], quality=quality)[0] for quality in (50, 89, 90, 100)}
  sizes = [len(data) for data in by_quality.values()]
  assert sizes == sorted(sizes)
  colour = [Image.open(io.BytesIO(data)).layer[1][1:3] for data in by_quality.values()]
  luma = [Image.open(io.BytesIO(data)).layer[0][1:3] for data in by_quality.values()]
  assert [a == b for a, b in zip(colour, luma)] == [False, False, True, True]


def test_exif_that_does_not_fit_is_dropped():
  data, notes = written(SMOOTH[:, :, :3], exif=bytes(65528))
  assert notes == ['EXIF dropped: its 65528 bytes are more than the 65527 that JPEG can hold']
  assert read(data)[0].exif is None
  data, notes = written(SMOOTH[:, :, :3], exif=bytes(65527), dpi=(1e9, 1))
  assert notes == [] and len(read(data)[0].exif) == 6 + 65527


@pytest.mark.parametrize(
  ('kind', 'reader', 'options'),
  [
    ('JPEG', pillow.read_jpeg, {}),
    ('JPEG', pillow.read_jpeg, {'progressive': True}),
    ('BMP', pillow.read_bmp, {}),
    ('PPM', pillow.read_ppm, {}),
  ],
)
def test_cut_short(kind, reader, options):
  data = file(Image.fromarray(NOISE[:, :, :3]), kind, **options)
  for length in [*range(2, 60), *range(60, len(data), 61), *range(len(data) - 20, len(data))]:
    try:
      _, pixels = read(data[:length], reader)
    except (OSError, SyntaxError, ValueError, IndexError, struct.error):
      continue
    assert length >= len(data) - 3  # an end marker or padding is missing, and no pixel
    np.testing.assert_array_equal(pixels, read(data, reader)[1])
