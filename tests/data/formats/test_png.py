"""PNG: every depth and kind of colour from files made by hand, and what other readers make of ours."""

import io
import re
import struct
import zlib

import numpy as np
from PIL import Image
import pytest

from lh_jax.data.formats import png as png_files

NOISE = np.random.default_rng(0).integers(0, 65536, (13, 21, 4), dtype=np.uint16)


def read(data):
  header = png_files.read(io.BytesIO(data))
  pixels = header.decode()
  assert pixels.shape[:2] == (header.height, header.width)
  return header, pixels


def written(pixels, *, icc=None, exif=None, dpi=None):
  stream = io.BytesIO()
  png_files.write(stream, pixels, icc=icc, exif=exif, dpi=dpi, quality=95)
  return stream.getvalue()


@pytest.mark.parametrize('interlaced', [False, True])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_colours_of_8_and_16_bits(png, channels, dtype, interlaced):
  samples = NOISE[:, :, :channels].astype(dtype)
  header, pixels = read(png(samples, interlaced=interlaced))
  assert pixels.dtype == dtype and header.notes == ()
  np.testing.assert_array_equal(pixels, samples)


def test_a_dark_16_bit_image_stays_one(png):
  samples = NOISE[:, :, :3] % 200
  np.testing.assert_array_equal(read(png(samples))[1], samples)
  assert read(png(samples))[1].dtype == np.uint16


@pytest.mark.parametrize('bits', [1, 2, 4])
def test_few_bits(png, bits):
  samples = (NOISE[:, :, 0] % 2**bits).astype(np.uint8)
  header, pixels = read(png(samples, bits=bits))
  np.testing.assert_array_equal(pixels[:, :, 0], samples * (255 // (2**bits - 1)))
  assert header.notes == (f'{bits}-bit pixels read as 8-bit',)


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
@pytest.mark.parametrize('transparent', [False, True])
def test_palettes(png, bits, transparent):
  samples = (NOISE[:, :, 0] % 2**bits).astype(np.uint8)
  palette = np.random.default_rng(1).integers(0, 256, (2**bits, 3), dtype=np.uint8)
  alphas = np.array([7, 200], np.uint8)  # fewer than colours: the others are opaque
  before = [(b'PLTE', palette.tobytes()), *([(b'tRNS', alphas.tobytes())] if transparent else [])]
  header, pixels = read(png(samples, bits=bits, colour=3, before=before))
  expected = palette[samples]
  if transparent:
    table = np.concatenate([alphas, np.full(2**bits - 2, 255, np.uint8)])
    expected = np.concatenate([expected, table[samples][:, :, None]], axis=2)
  np.testing.assert_array_equal(pixels, expected)
  assert header.notes == ('palette converted to RGB',)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 3])
def test_one_transparent_colour(png, channels, dtype):
  samples = NOISE[:, :, :channels].astype(dtype)
  colour = samples[3, 4]
  _, pixels = read(png(samples, before=[(b'tRNS', colour.astype('>u2').tobytes())]))
  np.testing.assert_array_equal(pixels[:, :, :-1], samples)
  opaque = (samples != colour).any(axis=2)
  np.testing.assert_array_equal(pixels[:, :, -1], opaque * np.iinfo(dtype).max)


def test_gamma_and_damaged_descriptions_do_not_matter(png, icc):
  samples = NOISE[:, :, :3].astype(np.uint8)
  before = [(b'gAMA', struct.pack('>I', 100000)), (b'iCCP', b'x\0\0' + zlib.compress(icc())[:-9]), (b'pHYs', b'short')]
  header, pixels = read(png(samples, before=before))
  np.testing.assert_array_equal(pixels, samples)
  assert (header.icc, header.dpi) == (None, None)
  assert header.notes == ('damaged colour profile dropped',)
  assert read(png(samples, before=[(b'iCCP', b'x\0\0no zlib')]))[0].notes == header.notes


def test_a_profile_that_unpacks_without_end_is_damaged(png):
  bomb = b'x\0\0' + zlib.compress(bytes(2**24 + 1))
  assert read(png(NOISE, before=[(b'iCCP', bomb)]))[0].notes == ('damaged colour profile dropped',)


def test_descriptions(png, icc, exif):
  before = [
    (b'iCCP', b'a profile\0\0' + zlib.compress(icc())),
    (b'pHYs', struct.pack('>IIB', 11811, 5906, 1)),
    (b'eXIf', exif()),
    (b'acTL', struct.pack('>II', 2, 0)),
    (b'cICP', b'\x09\x10\x00\x01'),
  ]
  header, _ = read(png(NOISE, before=before))
  assert (header.icc, header.exif) == (icc(), exif())
  assert header.dpi == pytest.approx((300, 150), abs=0.02)
  assert header.notes == (
    'animation: only its still picture read',
    'its colour space (cICP) is not kept: colours may look different',
  )
  assert read(png(NOISE, before=[(b'cICP', b'\x01\x0d\x00\x01'), (b'pHYs', bytes(9))]))[0].notes == ()


@pytest.mark.parametrize(
  'chunks, told',
  [
    ({b'gAMA': struct.pack('>I', 100000)}, True),
    ({b'cHRM': struct.pack('>8I', *range(8))}, True),
    ({b'gAMA': struct.pack('>I', 45455)}, False),
    ({b'gAMA': struct.pack('>I', 45455), b'cHRM': struct.pack('>8I', *range(8))}, True),
    ({b'sRGB': b'\x00', b'gAMA': struct.pack('>I', 100000)}, False),
  ],
)
def test_gamma_and_primaries_that_are_lost_are_told(png, chunks, told):
  notes = read(png(NOISE, before=list(chunks.items())))[0].notes
  assert notes == ('its gamma and primaries (gAMA, cHRM) are not kept: colours may look different',) * told


def test_exif_behind_the_pixels(png, exif):
  assert read(png(NOISE, after=[(b'eXIf', exif())]))[0].exif == exif()
  # Neither bytes that look like it, nor one that is damaged.
  data = bytearray(png(NOISE, after=[(b'tEXt', b'eXIf'), (b'teXt', b'-eXIf-')]))
  assert read(bytes(data))[0].exif is None


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_write_then_read(channels, dtype, icc, exif):
  pixels = NOISE[:, :, :channels].astype(dtype)
  data = written(pixels, icc=icc(), exif=exif(), dpi=(300, 72))
  header, again = read(data)
  assert again.dtype == dtype
  np.testing.assert_array_equal(again, pixels)
  assert (header.icc, header.exif) == (icc(), exif())
  assert header.dpi == pytest.approx((300, 72), abs=0.02)
  with Image.open(io.BytesIO(data)) as image:
    image.load()
    assert image.info['icc_profile'] == icc()
    assert image.getexif()[0x010F] == 'A camera'
    assert image.info['dpi'] == pytest.approx((300, 72), abs=0.02)
    witness = np.asarray(image.convert('LA') if channels == 2 else image)  # 16-bit colours come with their upper 8
  exact = dtype == np.uint8 or channels == 1
  np.testing.assert_array_equal(witness.reshape(pixels.shape), pixels if exact else pixels >> 8)


def test_nothing_but_pixels_is_written_unasked():
  assert set(re.findall(rb'IHDR|IDAT|IEND|[a-zA-Z]{2}[A-Z][a-zA-Z](?<=tEXt|iCCP|pHYs|eXIf|tIME)', written(NOISE))) == {
    b'IHDR',
    b'IDAT',
    b'IEND',
  }


def test_views_can_be_written():
  for view in (NOISE[::-1, :, :3], NOISE[:, ::2], NOISE.swapaxes(0, 1), NOISE[:, :, 1:2]):
    np.testing.assert_array_equal(read(written(view))[1], view)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_cut_short(png, dtype):
  data = png(NOISE.astype(dtype), after=[(b'tEXt', b'a\0b')])
  for length in [*range(8, 80), *range(80, len(data), 53), *range(len(data) - 20, len(data))]:
    with pytest.raises(ValueError, match=f'it is cut short: its {length} bytes end inside a chunk'):
      read(data[:length])


def test_damaged(png):
  data = bytearray(png(NOISE))
  data[data.index(b'IDAT') + 50] ^= 1
  with pytest.raises(ValueError, match=r'its IDAT chunk is damaged \(checksum\)'):
    read(bytes(data))
  with pytest.raises(ValueError, match='it has no PNG header'):
    read(png(NOISE).replace(b'IHDR', b'JHDR'))
  with pytest.raises(RuntimeError, match='Not enough image data'):
    read(png(NOISE)[:33] + png(NOISE[:5])[33:])
