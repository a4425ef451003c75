"""EXIF blocks: what is edited, that all else stays byte for byte, and that damage raises nothing but ValueErrors."""

import io

import numpy as np
from PIL import Image
import pytest

from lh_jax.data.formats import exif as exif_blocks

MAKER_NOTE, DATE, GPS = 0x927C, 0x9003, 0x8825


def by_pillow(block):
  """An independent reading of a block."""
  read = Image.Exif()
  read.load(b'Exif\0\0' + block)
  return read


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_upright(exif, orientation, order):
  block = exif(orientation=orientation, order=order)
  found, edited = exif_blocks.upright(block)
  assert found == orientation
  read = by_pillow(edited)
  assert read[0x0112] == 1
  assert read.get_ifd(1) == {}
  assert b'thumbnail' in block and b'thumbnail' not in edited
  details = read.get_ifd(0x8769)
  assert (details[0xA002], details[0xA003]) == ((32, 48) if orientation >= 5 else (48, 32))
  # All else is the same, at the same place.
  plain = exif(order=order, sides=(32, 48) if orientation >= 5 else (48, 32))
  different = np.flatnonzero(np.frombuffer(plain[: len(edited)], np.uint8) != np.frombuffer(edited, np.uint8))
  following_at = 8 + 2 + 12 * 9
  assert set(different) <= set(range(following_at, following_at + 4))
  assert exif_blocks.upright(edited) == (1, edited)


def test_jpegs_prefix_is_taken_off(exif):
  block = exif(orientation=3, thumbnail=False)
  assert exif_blocks.upright(b'Exif\0\0' + block) == exif_blocks.upright(block)


def test_a_thumbnail_in_the_middle_is_blanked(exif):
  block = exif() + b'behind'
  _, edited = exif_blocks.upright(block)
  assert len(edited) == len(block) and edited.endswith(b'behind') and b'thumbnail' not in edited


@pytest.mark.parametrize('orientation', [0, 9, 65535])
def test_an_orientation_out_of_range_is_none(exif, orientation):
  found, edited = exif_blocks.upright(exif(orientation=orientation))
  assert found == 1 and by_pillow(edited)[0x0112] == 1


def test_no_orientation_and_no_tags():
  empty = b'II*\0\x08\0\0\0' + bytes(6)
  assert exif_blocks.upright(empty) == (1, empty)


@pytest.mark.parametrize(
  ('block', 'reason'),
  [
    (b'', 'refers to bytes 0 to 4, and has 0'),
    (b'no TIFF structure', 'it does not begin as a TIFF structure'),
    (b'II*\0\xff\0\0\0', 'refers to bytes 255 to 257, and has 8'),
    (b'II*\0\x08\0\0\0\xff\xff', 'refers to bytes 10 to'),
  ],
)
def test_a_damaged_block(block, reason):
  with pytest.raises(ValueError, match=reason):
    exif_blocks.upright(block)


@pytest.mark.parametrize('order', ['<', '>'])
def test_into_and_out_of_a_tiff_file(exif, order):
  block = exif(orientation=6, order=order)
  stream = io.BytesIO((b'II*\0' if order == '<' else b'MM\0*') + (8).to_bytes(4, {'<': 'little', '>': 'big'}[order]))
  stream.seek(0, io.SEEK_END)
  stream.write(bytes(6) + b'odd')  # an empty directory
  exif_blocks.into_tiff(stream, block)
  packed, lost = exif_blocks.from_tiff(stream)
  assert not lost
  assert exif_blocks.order(packed) == order
  before, after = by_pillow(block), by_pillow(packed)
  assert dict(before) == dict(after) | {0x8769: before[0x8769], GPS: before[GPS]}
  below = {tag: read.get_ifd(0x8769)[0xA005] for tag, read in (('before', before), ('after', after))}
  assert before.get_ifd(0x8769) == after.get_ifd(0x8769) | {0xA005: below['before']}
  assert before.get_ifd(GPS) == after.get_ifd(GPS) != {}
  assert after.get_ifd(0x8769)[MAKER_NOTE] == b'maker' * 20
  assert after.get_ifd(0xA005) == before.get_ifd(0xA005) != {}
  assert b'thumbnail' not in packed
  assert exif_blocks.upright(packed)[0] == 6


def test_a_tiff_file_without_descriptive_tags():
  assert exif_blocks.from_tiff(io.BytesIO(b'II*\0\x08\0\0\0' + bytes(6))) == (None, set())


def test_directories_that_lead_to_themselves_end():
  # EXIF's offset is that of the first directory, whose next directory it is, too.
  block = b'II*\0\x08\0\0\0' + b'\x01\0' + b'\x69\x87\x04\0\x01\0\0\0\x08\0\0\0' + b'\x08\0\0\0'
  assert exif_blocks.upright(block)[0] == 1
  assert len(exif_blocks.from_tiff(io.BytesIO(block))[0]) < 2 * len(block)


def test_values_have_a_common_limit():
  # Thousands of tags of a megabyte, all of them the same: more than any camera writes.
  rows = b''.join(
    tag.to_bytes(2, 'little') + b'\x07\0' + (2**20).to_bytes(4, 'little') + bytes(4) for tag in range(3000)
  )
  details = (3000).to_bytes(2, 'little') + rows + bytes(4)
  first = b'\x01\0' + b'\x69\x87\x04\0\x01\0\0\0\x1a\0\0\0' + bytes(4)
  block = b'II*\0\x08\0\0\0' + first + details
  packed, lost = exif_blocks.from_tiff(io.BytesIO(block.ljust(2**20 + 2**17, b'\0')))
  assert len(lost) > 2900
  assert 2**23 < len(packed) <= 2**24 + 2**16


@pytest.mark.parametrize('order', ['<', '>'])
def test_random_damage(exif, order):
  generator = np.random.default_rng(0)
  block = exif(orientation=5, order=order)
  survived = 0
  for _ in range(1500):
    damaged = np.frombuffer(block, np.uint8).copy()
    places = generator.integers(0, len(block), generator.integers(1, 6))
    damaged[places] = generator.choice([0, 1, 4, 8, 127, 255], len(places))
    damaged = (
      damaged[: generator.integers(1, len(block) + 1)].tobytes() if generator.random() < 0.3 else damaged.tobytes()
    )
    try:
      orientation, edited = exif_blocks.upright(damaged)
      assert 1 <= orientation <= 8 and len(edited) <= len(damaged)
      exif_blocks.from_tiff(io.BytesIO(damaged))
      survived += 1
    except ValueError:
      continue
  assert survived > 500
