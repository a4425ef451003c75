"""Photographs through `image_files`: from any format to any other, what stays, what is noted, and what is refused."""

import dataclasses
import io
import itertools
import os
import re
import struct

import numpy as np
from PIL import Image
import pytest
import tifffile

from lh_jax.data import image_files

SUFFIXES = ('.png', '.jpg', '.webp', '.tif')
DEEP = ('.png', '.tif')
# Two plain quadrants and two ramps: no quarter turn or reflection leaves it as it was, and lossy formats keep it.
SMOOTH = np.zeros((32, 48, 3), np.uint16)
SMOOTH[:16, :24] = (64000, 5000, 9000)
SMOOTH[16:, 24:] = (9000, 8000, 60000)
SMOOTH[16:, :24] = np.linspace(20000, 60000, 24, dtype=np.uint16)[None, :, None]
SMOOTH[:16, 24:] = np.linspace(30000, 50000, 16, dtype=np.uint16)[:, None, None]
RAMP = np.linspace(0, 65535, 32 * 48).reshape(32, 48).astype(np.uint16)
UPRIGHT = {  # what a viewer does for each orientation, step by step
  1: lambda x: x,
  2: np.fliplr,
  3: lambda x: np.rot90(x, 2),
  4: np.flipud,
  5: lambda x: np.flipud(np.rot90(x)),
  6: lambda x: np.rot90(x, -1),
  7: lambda x: np.fliplr(np.rot90(x)),
  8: np.rot90,
}


def pixels_of(dtype):
  return image_files.to_uint8(SMOOTH) if dtype == np.uint8 else SMOOTH


def close(found, expected, suffix):
  """Equal, or as close as the compression of the format allows."""
  if suffix in DEEP:
    np.testing.assert_array_equal(found, expected)
  else:
    np.testing.assert_allclose(found[4::8, 4::8].astype(int), expected[4::8, 4::8], atol=12)


def through(path, photo, **options):
  notes = image_files.write_photo(path, photo, **options)
  return image_files.read_photo(path), notes


@pytest.mark.parametrize('alpha', [False, True])
@pytest.mark.parametrize('grey', [False, True])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('suffix', SUFFIXES)
def test_every_kind_through_every_format(tmp_path, suffix, dtype, grey, alpha, icc, exif):
  pixels = pixels_of(dtype)
  if grey:
    pixels = np.repeat(pixels[:, :, :1], 3, axis=2)
  transparency = RAMP if dtype == np.uint16 else image_files.to_uint8(RAMP)
  profile = icc(b'GRAY' if grey else b'RGB ')
  photo = image_files.Photo(
    pixels, alpha=transparency if alpha else None, grey=grey, icc=profile, exif=exif(thumbnail=False)
  )
  found, notes = through(tmp_path / f'x{suffix}', photo)
  narrow = dtype == np.uint16 and suffix not in DEEP
  name = {'.jpg': 'JPEG', '.webp': 'WebP'}.get(suffix)
  expected_notes = (
    *([f'written with 8 bits: {name} has no more'] if narrow else []),
    *(['laid on white: JPEG has no transparency'] if alpha and suffix == '.jpg' else []),
    *(['grey colour profile dropped: written as RGB to WebP'] if grey and suffix == '.webp' else []),
  )
  assert notes == expected_notes and found.notes == ()
  assert found.grey == (grey and suffix != '.webp')
  assert found.icc == (None if grey and suffix == '.webp' else profile)
  assert found.exif[:4] == b'II*\0' and b'A camera' in found.exif
  expected = image_files.to_uint8(pixels) if narrow else pixels
  opacity = image_files.to_uint8(transparency) if narrow else transparency
  if alpha and suffix == '.jpg':
    assert found.alpha is None
    expected = np.round(255 - (255 - expected.astype(float)) * (opacity[:, :, None] / 255)).astype(np.uint8)
  elif alpha:
    np.testing.assert_array_equal(found.alpha, opacity)  # untouched
  assert found.pixels.dtype == expected.dtype
  close(found.pixels, expected, suffix)
  if grey:
    assert (found.pixels == found.pixels[:, :, :1]).all()
  for array in (found.pixels, *([] if found.alpha is None else [found.alpha])):
    assert array.flags.owndata and array.flags.writeable and array.flags.c_contiguous


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize(('source', 'target'), list(itertools.product(SUFFIXES, SUFFIXES)))
def test_orientation_is_applied_once(tmp_path, source, target, orientation, exif):
  """Through a second file, too: the orientation that was applied is no longer told."""
  first, second = tmp_path / f'a{source}', tmp_path / f'b{target}'
  stored, block = pixels_of(np.uint8), exif(orientation=orientation)
  image_files.write_photo(first, image_files.Photo(stored, exif=block))
  expected = UPRIGHT[orientation](stored)
  photo = image_files.read_photo(first)
  close(photo.pixels, expected, source)
  assert image_files.size(first) == photo.pixels.shape[:2] == expected.shape[:2]
  again, _ = through(second, photo)
  assert again.pixels.shape == photo.pixels.shape
  np.testing.assert_allclose(again.pixels[4::8, 4::8].astype(int), expected[4::8, 4::8], atol=16)
  with Image.open(second) as image:
    assert image.getexif()[0x0112] == 1


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['png', 'tif'])
def test_orientation_of_16_bits_and_alpha(tmp_path, kind, orientation, exif):
  stored = np.concatenate([SMOOTH, RAMP[:, :, None]], axis=2)
  path = tmp_path / f'x.{kind}'
  if kind == 'tif':
    tags = [(274, 'H', 1, orientation, True)]
    tifffile.imwrite(path, stored, photometric='rgb', extrasamples=[2], extratags=tags, compression='zlib')
  else:
    image_files.write_photo(path, image_files.Photo(SMOOTH, alpha=RAMP, exif=exif(orientation=orientation)))
  photo = image_files.read_photo(path)
  np.testing.assert_array_equal(photo.pixels, UPRIGHT[orientation](SMOOTH))
  np.testing.assert_array_equal(photo.alpha, UPRIGHT[orientation](RAMP))
  assert photo.pixels.flags.c_contiguous and photo.alpha.flags.c_contiguous
  assert image_files.size(path) == photo.alpha.shape


@pytest.mark.parametrize('metadata', image_files.METADATA)
@pytest.mark.parametrize(('source', 'target'), list(itertools.product(SUFFIXES, SUFFIXES)))
def test_what_belongs_to_a_photograph_stays(tmp_path, source, target, metadata, icc, exif):
  first, second = tmp_path / f'a{source}', tmp_path / f'b{target}'
  profile = icc(size=150_000)
  image_files.write_photo(first, image_files.Photo(pixels_of(np.uint8), icc=profile, exif=exif()))
  photo = image_files.read_photo(first)
  assert photo.icc == profile and b'thumbnail' not in photo.exif
  image_files.write_photo(second, photo, metadata=metadata)
  assert b'thumbnail' not in second.read_bytes()
  with Image.open(second) as image:
    assert image.info['icc_profile'] == profile
    found = image.getexif()
    if metadata == 'strip':
      assert not set(found) & {0x010F, 0x0132, 0x8769, 0x8825}
      assert b'camera' not in second.read_bytes()
    else:
      assert (found[0x010F], found[0x0132]) == ('A camera', '2024:05:06 07:08:09')
      details = found.get_ifd(0x8769)
      assert (details[0x9003], details[0x927C]) == ('2024:05:06 07:08:09', b'maker' * 20)
      assert found.get_ifd(0x8825) == {1: 'N', 2: (47.0, 3.0, 2.0)}
      assert found.get_ifd(1) == {}


def test_exif_of_other_formats_keeps_every_byte(tmp_path, exif):
  """Only TIFF packs the block anew: maker notes stay where their own offsets expect them."""
  block = exif(thumbnail=False, order='>')
  for suffix in ('.png', '.jpg', '.webp'):
    assert through(tmp_path / f'x{suffix}', image_files.Photo(pixels_of(np.uint8), exif=block))[0].exif == block


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.webp'])
def test_damaged_exif_is_dropped_with_a_note(tmp_path, suffix):
  path = tmp_path / f'x{suffix}'
  Image.fromarray(pixels_of(np.uint8)).save(path, exif=b'Exif\0\0no TIFF structure')
  photo = image_files.read_photo(path)
  assert photo.exif is None
  assert photo.notes == ('damaged EXIF dropped: it does not begin as a TIFF structure',)
  assert image_files.size(path) == (32, 48)


@pytest.mark.parametrize('orientation', [1, 6])
def test_resolution(tmp_path, orientation, exif):
  block = exif(orientation=orientation, thumbnail=False)
  for suffix in ('.png', '.jpg'):
    photo, _ = through(tmp_path / f'x{suffix}', image_files.Photo(pixels_of(np.uint8), dpi=(300, 150), exif=block))
    assert photo.dpi == pytest.approx((300, 150) if orientation == 1 else (150, 300), abs=0.02)
    stripped, _ = through(tmp_path / f'y{suffix}', photo, metadata='strip')
    assert (stripped.dpi, stripped.exif) == (None, None)


def test_a_16_bit_jpeg_value_is_rounded(tmp_path):
  """Every 16-bit level to the nearest of 8 bits, where truncation would be off by one for half of them."""
  levels = np.arange(65536, dtype=np.uint16)
  expected = np.floor(levels / 257 + 0.5)
  np.testing.assert_array_equal(image_files.to_uint8(levels), expected)
  plain = np.full((8, 8, 3), 255 * 257 - 129, np.uint16)
  assert image_files.to_uint8(plain).max() == 254
  assert through(tmp_path / 'x.jpg', image_files.Photo(plain))[0].pixels.min() == 254


def test_grey_is_the_rounded_mean(tmp_path):
  generator = np.random.default_rng(0)
  for dtype in (np.uint8, np.uint16):
    restored = generator.integers(0, np.iinfo(dtype).max, (64, 64, 3), dtype=dtype, endpoint=True)
    expected = np.rint(restored.mean(axis=2, dtype=np.float64))
    for suffix in DEEP:
      found, _ = through(tmp_path / f'x{suffix}', image_files.Photo(restored, grey=True))
      assert found.grey
      np.testing.assert_array_equal(found.pixels, np.repeat(expected[:, :, None], 3, axis=2))
  assert (through(tmp_path / 'x.webp', image_files.Photo(restored, grey=True))[0].pixels.std(axis=2) < 3).mean() > 0.9


def test_opaque_alpha_costs_jpeg_nothing(tmp_path):
  photo = image_files.Photo(pixels_of(np.uint8), alpha=np.full((32, 48), 255, np.uint8))
  found, notes = through(tmp_path / 'x.jpg', photo)
  assert notes == ()
  close(found.pixels, photo.pixels, '.jpg')


@pytest.mark.parametrize('profile', [False, True])
@pytest.mark.parametrize('kind', ['jpg', 'tif'])
def test_cmyk(tmp_path, kind, profile, cmyk_profile):
  image = Image.fromarray(pixels_of(np.uint8)).convert('CMYK')
  path = tmp_path / f'x.{kind}'
  image.save(path, icc_profile=cmyk_profile if profile else None, **({'quality': 95} if kind == 'jpg' else {}))
  photo = image_files.read_photo(path)
  assert photo.icc is None and photo.pixels.shape == (32, 48, 3) and photo.pixels.dtype == np.uint8
  if profile:
    assert photo.notes == ('CMYK converted to sRGB with its embedded profile, which is not kept',)
  else:
    assert photo.notes == ('CMYK converted to RGB without a profile',)
    close(photo.pixels, pixels_of(np.uint8), '.jpg')


def test_cmyk_with_16_bits_and_alpha(tmp_path, cmyk_profile):
  stored = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1], RAMP // 2, RAMP], axis=2)
  tifffile.imwrite(
    tmp_path / 'x.tif', stored, photometric='separated', extrasamples=['unassalpha'], iccprofile=cmyk_profile
  )
  photo = image_files.read_photo(tmp_path / 'x.tif')
  assert photo.pixels.dtype == np.uint16 and len(np.unique(photo.pixels)) > 512
  np.testing.assert_array_equal(photo.alpha, RAMP)


def test_the_bytes_decide_not_the_name(tmp_path):
  for kind, name in (('JPEG', 'x.png'), ('PNG', 'x.jpg'), ('TIFF', 'x.webp'), ('WEBP', 'x.tif'), ('BMP', 'x.png')):
    Image.fromarray(pixels_of(np.uint8)).save(tmp_path / name, format=kind)
    close(image_files.read_photo(tmp_path / name).pixels, pixels_of(np.uint8), '.jpg')


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_unicode_and_long_names(tmp_path, suffix):
  for name in ('été 写真 🌄', 'ß' * 120):
    path = tmp_path / 'Ordner ü' / f'{name}{suffix}'
    found, _ = through(path, image_files.Photo(pixels_of(np.uint8)))
    close(found.pixels, pixels_of(np.uint8), suffix)
  assert len(os.listdir(path.parent)) == 2


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_a_file_cut_short_is_named(tmp_path, suffix, icc, exif):
  whole = tmp_path / f'whole{suffix}'
  noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
  image_files.write_photo(whole, image_files.Photo(noise, icc=icc(), exif=exif()))
  data, cut = whole.read_bytes(), tmp_path / f'cut ü{suffix}'
  for length in [1, 2, 7, 8, 9, 20, *range(30, len(data) - 3, 397), len(data) - 3]:
    cut.write_bytes(data[:length])
    try:
      photo = image_files.read_photo(cut)
    except ValueError as error:
      assert re.match(f"cannot read image file '.*cut ü{suffix}': .+", str(error))
      continue
    # Only tags behind all pixels are missing, and that is noted.
    assert suffix == '.tif' and photo.notes
    np.testing.assert_array_equal(photo.pixels, noise)


def test_what_is_no_image(tmp_path):
  for name, content, reason in (
    ('empty.png', b'', 'it is empty'),
    ('text.jpg', b'not an image', 'it is not a PNG, JPEG, TIFF, WebP, BMP or PPM file'),
    ('desktop.ini', b'[.ShellClassInfo]', 'it is not a PNG'),
    ('page.webp', b'RIFF\x04\0\0\0WAVE', 'it is not a PNG'),
  ):
    (tmp_path / name).write_bytes(content)
    for read in (image_files.read_photo, image_files.read_rgb, image_files.size):
      with pytest.raises(ValueError, match=f"cannot read image file '.*{re.escape(name)}': {reason}"):
        read(tmp_path / name)
  with pytest.raises(FileNotFoundError, match=f'{tmp_path.name}.* is not a file'):
    image_files.read_photo(tmp_path)
  with pytest.raises(FileNotFoundError, match="image file '.*none.png' does not exist"):
    image_files.read_photo(tmp_path / 'none.png')


def enormous(kind, width, height):
  """A file whose header promises width x height, and which holds next to nothing."""
  stream = io.BytesIO()
  Image.new('RGB', (16, 16)).save(stream, kind, **({'lossless': True} if kind == 'WEBP' else {}))
  data = bytearray(stream.getvalue())
  if kind == 'JPEG':
    data[(at := data.index(b'\xff\xc0') + 5) : at + 4] = struct.pack('>HH', height, width)
  elif kind == 'WEBP':
    data[21:25] = struct.pack('<I', (width - 1) | (height - 1) << 14)
  elif kind == 'BMP':
    data[18:26] = struct.pack('<ii', width, height)
  elif kind == 'PPM':
    data = data.replace(b'16 16', f'{width} {height}'.encode())
  elif kind == 'TIFF':
    for name, value in (('ImageWidth', width), ('ImageLength', height)):
      tag = tifffile.TiffFile(io.BytesIO(data)).pages.first.tags[name]
      struct.pack_into('<' + {3: 'H', 4: 'I'}[tag.dtype], data, tag.valueoffset, value)
  return bytes(data)


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF', 'BMP', 'PPM', 'WEBP', 'PNG'])
def test_a_decompression_bomb_is_refused_on_its_header(tmp_path, kind, png):
  width, height = (16383, 16383) if kind == 'WEBP' else (60000, 60000)
  if kind == 'PNG':
    small = png(np.zeros((4, 4, 4), np.uint16))
    head = struct.pack('>4sIIBBBBB', b'IHDR', width, height, 16, 6, 0, 0, 0)
    data = small[:12] + head + small[29:]
  else:
    data = enormous(kind, width, height)
  (tmp_path / 'bomb').write_bytes(data)
  limit = 2**28 if kind != 'WEBP' else 2**20  # WebP cannot promise more than the limit
  with pytest.raises(
    ValueError, match=rf"'.*bomb': {width}x{height} pixels are not within 1 to {limit} \(max_pixels\)"
  ):
    image_files.read_photo(tmp_path / 'bomb', max_pixels=limit)


@pytest.mark.parametrize('kind', ['JPEG', 'WEBP', 'TIFF', 'BMP', 'PPM'])
def test_the_largest_size_passes_every_guard(tmp_path, monkeypatch, kind):
  """16384 x 16384 is beyond Pillow's own limit, whose warning would fail here."""

  def decode():
    raise ValueError('the pixels are asked for')

  (tmp_path / 'large').write_bytes(enormous(kind, 16384, 16384))
  assert image_files.size(tmp_path / 'large') == (16384, 16384)
  read_header = image_files.known.read_header
  monkeypatch.setattr(
    image_files.known, 'read_header', lambda stream: dataclasses.replace(read_header(stream), decode=decode)
  )
  with pytest.raises(ValueError, match='the pixels are asked for'):
    image_files.read_photo(tmp_path / 'large')


@pytest.mark.slow
@pytest.mark.parametrize('suffix', SUFFIXES)
def test_the_largest_size(tmp_path, suffix):
  side = 16383 if suffix == '.webp' else 16384
  pixels = np.broadcast_to(np.uint8(127), (side, side, 3))
  image_files.write_photo(tmp_path / f'x{suffix}', image_files.Photo(pixels, grey=suffix != '.webp'))
  found = image_files.read_photo(tmp_path / f'x{suffix}').pixels
  assert found.shape == (side, side, 3) and abs(int(found[77, 77, 0]) - 127) <= 1
  with pytest.raises(ValueError, match='pixels are not within 1 to 1000'):
    image_files.read_photo(tmp_path / f'x{suffix}', max_pixels=1000)


def test_what_is_stored_must_fit_its_header(tmp_path, monkeypatch):
  Image.fromarray(pixels_of(np.uint8)).save(tmp_path / 'x.png')
  read_header = image_files.known.read_header
  monkeypatch.setattr(
    image_files.known, 'read_header', lambda stream: dataclasses.replace(read_header(stream), height=99)
  )
  with pytest.raises(ValueError, match=r'its pixels, \(32, 48, 3\), are not as many as its header says'):
    image_files.read_photo(tmp_path / 'x.png')


@pytest.mark.parametrize(
  ('name', 'change', 'options', 'reason'),
  [
    ('x.gif', {}, {}, "suffix '.gif' is not one of .png, .jpg, .jpeg, .webp, .tif, .tiff"),
    ('x.png', {}, {'metadata': 'some'}, "metadata is 'some'; it must be one of keep, strip"),
    ('x.jpg', {}, {'quality': 0}, 'quality is 0; it must lie in 1 to 100'),
    ('x.png', {'pixels': SMOOTH / 65535}, {}, 'x.png.*pixels are float64, not uint8 or uint16; see to_uint8'),
    ('x.png', {'pixels': SMOOTH[:, :, 0]}, {}, r'x.png.*shape \(32, 48\) is not \(height, width, 3\)'),
    ('x.png', {'pixels': SMOOTH[:0]}, {}, r'x.png.*shape \(0, 48, 3\) is not'),
    ('x.png', {'alpha': RAMP[1:]}, {}, r'alpha of shape \(31, 48\) and uint16 does not fit pixels of uint16'),
    (
      'x.png',
      {'alpha': RAMP.astype(np.uint8)},
      {},
      r'alpha of shape \(32, 48\) and uint8 does not fit pixels of uint16',
    ),
    ('x.tif', {'exif': b'no block'}, {}, 'x.tif.*it does not begin as a TIFF structure'),
    ('x.webp', {'pixels': np.zeros((1, 16384, 3), np.uint8)}, {}, 'WebP holds up to 16383 pixels a side, not 16384x1'),
    ('x.jpg', {'pixels': np.zeros((65501, 1, 3), np.uint8)}, {}, 'JPEG holds up to 65500 pixels a side, not 1x65501'),
  ],
)
def test_what_cannot_be_written(tmp_path, name, change, options, reason):
  with pytest.raises(ValueError, match=reason):
    image_files.write_photo(tmp_path / name, dataclasses.replace(image_files.Photo(SMOOTH), **change), **options)
  assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'x.tif'
  image_files.write_photo(path, image_files.Photo(SMOOTH))
  before = path.read_bytes()
  with pytest.raises(ValueError, match='cannot write'):
    image_files.write_photo(path, image_files.Photo(SMOOTH, exif=b'no block'))
  assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_the_largest_webp_side_can_be_written(tmp_path):
  pixels = np.zeros((1, 16383, 3), np.uint8)
  assert through(tmp_path / 'x.webp', image_files.Photo(pixels))[0].pixels.shape == (1, 16383, 3)
