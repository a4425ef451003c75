"""TIFF: the variety that scanners, editors and scientists write, and what other readers make of ours."""

import io
import struct

import imagecodecs
import numpy as np
from PIL import Image
import pytest
import tifffile

from lh_jax.data.formats import tiff as tiff_files

NOISE = np.random.default_rng(0).integers(0, 65536, (45, 70, 5), dtype=np.uint16)
DTYPES = [np.uint8, np.uint16]


def by_tifffile(pixels, **options):
  stream = io.BytesIO()
  tifffile.imwrite(stream, pixels, metadata=None, **options)
  return stream.getvalue()


def by_pillow(image, **options):
  stream = io.BytesIO()
  image.save(stream, 'TIFF', **options)
  return stream.getvalue()


def read(data):
  header = tiff_files.read(io.BytesIO(data))
  pixels = header.decode()
  assert pixels.shape[:2] == (header.height, header.width)
  return header, pixels


def patched(data, **tags):
  """Overwrites integer tags of a little-endian file in place."""
  data = bytearray(data)
  for name, value in tags.items():
    tag = tifffile.TiffFile(io.BytesIO(data)).pages.first.tags[name]
    struct.pack_into('<' + {3: 'H', 4: 'I'}[tag.dtype], data, tag.valueoffset, value)
  return bytes(data)


def written(pixels, *, icc=None, exif=None, dpi=None):
  stream = io.BytesIO()
  tiff_files.write(stream, pixels, icc=icc, exif=exif, dpi=dpi, quality=95)
  return stream.getvalue()


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize(
  'options',
  [
    {},
    {'compression': 'zlib', 'predictor': True},
    {'compression': 'lzw', 'rowsperstrip': 7},
    {'compression': 'lzw', 'predictor': True, 'tile': (16, 32)},
    {'tile': (64, 128)},
    {'byteorder': '>'},
    {'byteorder': '>', 'compression': 'zlib', 'predictor': True},
    {'bigtiff': True},
    {'planarconfig': 'separate'},
    {'planarconfig': 'separate', 'compression': 'zlib', 'tile': (16, 16)},
  ],
  ids=str,
)
def test_layouts(options, dtype):
  expected = NOISE[:, :, :3].astype(dtype)
  stored = np.moveaxis(expected, -1, 0) if 'planarconfig' in options else expected
  header, pixels = read(by_tifffile(stored, photometric='rgb', **options))
  assert pixels.dtype == dtype and header.notes == ()
  np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize('compression', [None, 'tiff_lzw', 'tiff_adobe_deflate', 'tiff_deflate', 'packbits', 'jpeg'])
def test_pillows_files(compression):
  for channels in (1, 3):
    image = Image.fromarray(NOISE[:, :, :channels].astype(np.uint8).squeeze())
    data = by_pillow(image, compression=compression)
    np.testing.assert_array_equal(read(data)[1].squeeze(), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize('compression', [None, 'group3', 'group4'])
def test_scanned_black_and_white(compression):
  black = NOISE[:, :, 0] < 20000
  header, pixels = read(by_pillow(Image.fromarray(~black), compression=compression))
  np.testing.assert_array_equal(pixels[:, :, 0], np.where(black, 0, 255))
  assert header.notes == ('1-bit pixels read as 8-bit',)


@pytest.mark.parametrize('photometric', ['minisblack', 'miniswhite'])
@pytest.mark.parametrize(
  ('bits', 'top'), [(1, 255), (2, 255), (4, 255), (8, 255), (10, 65535), (12, 65535), (16, 65535)]
)
def test_grey_of_any_depth(bits, top, photometric):
  stored = (NOISE[:, :, 0] >> (16 - bits)).astype(np.uint8 if bits <= 8 else np.uint16)
  data = by_tifffile(stored == 1 if bits == 1 else stored, photometric=photometric, bitspersample=bits)
  header, pixels = read(data)
  scaled = np.floor(stored / (2**bits - 1) * top + 0.5)
  np.testing.assert_array_equal(pixels[:, :, 0], scaled if photometric == 'minisblack' else top - scaled)
  assert pixels.dtype == (np.uint8 if top == 255 else np.uint16)
  assert header.notes == (() if bits in (8, 16) else (f'{bits}-bit pixels read as {8 if bits < 8 else 16}-bit',))


def test_palette():
  image = Image.fromarray(NOISE[:, :, :3].astype(np.uint8)).quantize(64)
  header, pixels = read(by_pillow(image))
  np.testing.assert_array_equal(pixels, np.asarray(image.convert('RGB')))
  assert header.notes == ('palette converted to RGB',)
  full = np.arange(256, dtype=np.uint16) * 257
  header, pixels = read(by_tifffile(NOISE[:, :, 0].astype(np.uint8), photometric='palette', colormap=[full] * 3))
  np.testing.assert_array_equal(pixels, np.repeat(NOISE[:, :, :1].astype(np.uint8), 3, axis=2))


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('colours', [1, 3])
def test_alpha(colours, dtype):
  stored = NOISE[:, :, : colours + 1].astype(dtype)
  options = {'photometric': 'rgb' if colours == 3 else 'minisblack', 'planarconfig': 'contig'}
  header, pixels = read(by_tifffile(stored, extrasamples=['unassalpha'], **options))
  assert header.notes == ()
  np.testing.assert_array_equal(pixels, stored)
  # Stored multiplied by alpha: given back straight, to within the rounding of the product.
  alpha = stored[:, :, -1:].astype(np.uint64)
  top = np.iinfo(dtype).max
  product = (stored[:, :, :-1] * alpha + top // 2) // top
  stored = np.concatenate([product, alpha], axis=2).astype(dtype)
  header, pixels = read(by_tifffile(stored, extrasamples=['assocalpha'], **options))
  assert header.notes == ('colours divided by their alpha',)
  np.testing.assert_array_equal(pixels[:, :, -1], stored[:, :, -1])
  again = (pixels[:, :, :-1] * alpha + top // 2) // top
  np.testing.assert_array_equal(again[alpha[:, :, 0] > 0], product[alpha[:, :, 0] > 0])


def test_premultiplied_colours_without_or_above_alpha():
  stored = np.array([[[9, 9, 9, 0], [200, 100, 50, 100]]], np.uint8)
  _, pixels = read(by_tifffile(stored, photometric='rgb', extrasamples=['assocalpha']))
  assert pixels.tolist() == [[[0, 0, 0, 0], [255, 255, 128, 100]]]


def test_extra_channels():
  header, pixels = read(by_tifffile(NOISE, photometric='rgb', extrasamples=[0, 2]))
  np.testing.assert_array_equal(pixels, NOISE[:, :, [0, 1, 2, 4]])
  assert header.notes == ('1 extra channels dropped',)
  header, pixels = read(by_pillow(Image.fromarray(NOISE[:, :, :3].astype(np.uint8)).convert('RGBX')))
  assert pixels.shape[2] == 3 and header.notes == ('1 extra channels dropped',)
  # No tag to tell: four channels are RGB and alpha.
  data = by_tifffile(NOISE[:, :, :4].astype(np.uint8), photometric='rgb', extrasamples=['unassalpha'])
  entry = data.index(struct.pack('<HH', 338, 3))
  header, pixels = read(data[:entry] + struct.pack('<H', 65000) + data[entry + 2 :])
  np.testing.assert_array_equal(pixels, NOISE[:, :, :4].astype(np.uint8))


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('channels', [4, 5])
def test_cmyk_is_left_as_stored(channels, dtype, icc):
  stored = NOISE[:, :, :channels].astype(dtype)
  extra = {'extrasamples': ['unassalpha']} if channels == 5 else {}
  header, pixels = read(by_tifffile(stored, photometric='separated', iccprofile=icc(), **extra))
  assert header.cmyk and header.icc == icc()
  np.testing.assert_array_equal(pixels, stored)


def test_ycbcr():
  smooth = np.asarray(Image.fromarray(NOISE[:3, :4, :3].astype(np.uint8)).resize((64, 48)))
  for data in (
    by_pillow(Image.fromarray(smooth).convert('YCbCr')),
    by_tifffile(smooth, photometric='rgb', compression='jpeg', subsampling=(2, 2)),
  ):
    assert np.abs(read(data)[1].astype(int) - smooth).mean() < 4
  # libtiff would turn these, too: once is enough.
  data = by_tifffile(smooth, photometric='rgb', compression='jpeg', extratags=[(274, 'H', 1, 3, True)])
  assert np.abs(read(data)[1].astype(int) - smooth).mean() < 4


def test_pages():
  header, pixels = read(by_tifffile(np.stack([NOISE[:, :, :3], NOISE[:, :, 1:4]]), photometric='rgb'))
  np.testing.assert_array_equal(pixels, NOISE[:, :, :3])
  assert header.notes == ('2 pages: only the first read',)


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (9, 1), (3, 3), (4, 3)])
@pytest.mark.parametrize('planar', [False, True])
def test_small_sizes(shape, planar):
  expected = NOISE[: shape[0], : shape[1], :3]
  options = {'planarconfig': 'separate'} if planar else {}
  stored = np.moveaxis(expected, -1, 0) if planar else expected
  np.testing.assert_array_equal(read(by_tifffile(stored, photometric='rgb', **options))[1], expected)


@pytest.mark.parametrize(
  ('pixels', 'options', 'reason'),
  [
    (NOISE[:, :, :3].astype(np.float32), {'photometric': 'rgb'}, 'pixel type 32-bit floating-point is not supported'),
    (NOISE[:, :, 0].astype(np.int16), {'photometric': 'minisblack'}, 'pixel type 16-bit signed is not supported'),
    (NOISE[:, :, 0].astype(np.uint32), {'photometric': 'minisblack'}, 'pixel type 32-bit unsigned is not supported'),
    (NOISE[:, :, :3].astype(np.uint8), {'photometric': 'cielab'}, '3 channels of photometric interpretation CIELAB in'),
    (NOISE[:, :, 0], {'photometric': 'minisblack', 'subfiletype': 1}, 'its first page is a reduced copy of another'),
    (NOISE[:2, :32, :32], {'photometric': 'minisblack', 'volumetric': True}, 'it is a volume'),
    (NOISE[:, :, :4], {'photometric': 'separated', 'extratags': [(332, 'H', 1, 2, True)]}, '4 channels of'),
  ],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_what_is_not_read(pixels, options, reason):
  with pytest.raises(ValueError, match=reason):
    read(by_tifffile(pixels, **options))


def test_unbelievable_structures():
  tiled = by_tifffile(NOISE[:, :, :3], photometric='rgb', tile=(16, 16))
  with pytest.raises(ValueError, match='its tiles of 100000x100000 pixels are larger than any real ones'):
    read(patched(tiled, TileWidth=100000, TileLength=100000))
  palette = by_pillow(Image.fromarray(NOISE[:, :, :3].astype(np.uint8)).quantize(64))
  entry = palette.index(struct.pack('<HHI', 320, 3, 768))
  with pytest.raises(ValueError, match='its colour map is damaged'):
    read(palette[: entry + 4] + struct.pack('<I', 765) + palette[entry + 8 :])
  with pytest.raises(ValueError, match='it is cut short or damaged: it has no page'):
    read(b'II*\0\x08\0\0\0')
  transparent = by_tifffile(NOISE[:, :, :4].astype(np.uint8), photometric='rgb', extrasamples=['unassalpha'])
  with pytest.raises(ValueError, match='4 channels of photometric interpretation RGB in this compression are not'):
    read(patched(transparent, Compression=7))
  with pytest.raises(ValueError, match='1 channels of photometric interpretation MINISBLACK in this compression'):
    read(patched(by_tifffile(NOISE[:, :, 0], photometric='minisblack'), Compression=7))


def test_lost_tags_are_noted(icc, exif):
  """What is cut off behind the pixels costs no pixel, and is told."""
  data = written(NOISE[:, :, :3], icc=icc(), exif=exif())
  seen = set()
  for length in range(len(data) - 4000, len(data), 40):
    try:
      header, pixels = read(data[:length])
    except ValueError:
      continue
    np.testing.assert_array_equal(pixels, NOISE[:, :, :3])
    assert header.notes and (header.icc == icc() or 'damaged colour profile dropped' in header.notes)
    seen |= set(header.notes)
  assert 'damaged colour profile dropped' in seen
  assert any(note.startswith('tags dropped whose values are not in the file: ') for note in seen)


@pytest.mark.parametrize(
  'options',
  [{}, {'compression': 'lzw'}, {'compression': 'zlib', 'rowsperstrip': 8}, {'compression': 'zlib', 'tile': (16, 16)}],
  ids=str,
)
def test_cut_short(options):
  data = by_tifffile(NOISE[:, :, :3], photometric='rgb', **options)
  for length in [*range(4, 400, 9), *range(400, len(data), 997), *range(len(data) - 20, len(data))]:
    with pytest.raises(Exception, match='it is cut short|corrupted|not a TIFF|unpack|missing|NoneType'):
      read(data[:length])


def test_damaged_compression_is_an_error_not_a_crash():
  """Damaged LZW data: a decoder without checks of its bounds ends the process here, sooner or later."""
  generator = np.random.default_rng(0)
  data = np.frombuffer(by_tifffile(NOISE[:, :, :3].astype(np.uint8), photometric='rgb', compression='lzw'), np.uint8)
  start = tifffile.TiffFile(io.BytesIO(data)).pages.first.dataoffsets[0]
  errors = 0
  for _ in range(400):
    damaged = data.copy()
    damaged[generator.integers(start, len(data), 4)] = generator.integers(0, 256, 4)
    try:
      read(damaged.tobytes())
    except (ValueError, RuntimeError):
      errors += 1
  assert errors > 50


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('order', [None, '<', '>'])
def test_write_then_read(channels, dtype, order, icc, exif):
  pixels = NOISE[:, :, :channels].astype(dtype)
  block = None if order is None else exif(order=order, thumbnail=False)
  data = written(pixels, icc=icc(), exif=block, dpi=(240, 120))
  header, again = read(data)
  assert again.dtype == dtype and header.icc == icc() and header.notes == ()
  np.testing.assert_array_equal(again, pixels)
  np.testing.assert_array_equal(imagecodecs.tiff_decode(data).reshape(pixels.shape), pixels)
  page = tifffile.TiffFile(io.BytesIO(data)).pages.first
  np.testing.assert_array_equal(page.asarray().reshape(pixels.shape), pixels)
  assert page.iccprofile == icc() and len(tifffile.TiffFile(io.BytesIO(data)).pages) == 1
  if dtype == np.uint16 and channels == 2:
    return  # of which Pillow knows nothing
  with Image.open(io.BytesIO(data)) as image:
    if dtype == np.uint8 or channels == 1:
      np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)
    assert image.info['icc_profile'] == icc()
    found = image.getexif()
    assert image.info['dpi'] == ((240, 120) if order is None else (300, 300))
  assert found.get(0x010F) == (None if order is None else 'A camera')
  if order is not None:
    assert found.get_ifd(0x8769)[0x927C] == b'maker' * 20
    assert found.get_ifd(0x8825)[1] == 'N'
  assert 0x0131 not in found  # no software signs it


def test_a_damaged_exif_block_is_not_written():
  with pytest.raises(ValueError, match='it does not begin as a TIFF structure'):
    written(NOISE[:, :, :3], exif=b'no block')
