"""EXIF blocks: read the orientation, set it upright, and carry the tags in and out of TIFF files.

Contract: a block is the bare TIFF structure, from its 'II*' or 'MM' on; the 'Exif' that JPEG puts before it belongs to
JPEG. `upright` edits a block in place, so that maker notes, whose offsets often count from the start of the block, stay
valid. Only what comes out of or goes into a TIFF file, where it is a part of the file's own tags, is packed anew.
What is damaged is a ValueError or, inside a block that can be read otherwise, left as it is.
"""

from __future__ import annotations

import dataclasses
import io
import struct
from typing import BinaryIO

_ORIENTATION = 0x0112
# The tags of a TIFF file that describe the photograph, not its storage: texts, dates, resolution, EXIF and GPS.
_DESCRIPTIVE = frozenset(
  (270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096), 34665, 34853)
)
_EXIF = 34665
# Which tags of a directory are offsets of directories, by the tag that led to it: EXIF and GPS, then interoperability.
_BELOW = {None: (_EXIF, 34853), _EXIF: (40965,)}
_SIDES = ((0x0100, 0x0101), (0xA002, 0xA003))  # width and height, in the first directory and in EXIF's
_THUMBNAIL = ((0x0201, 0x0202), (0x0111, 0x0117))  # offset and length, as JPEG and as plain pixels
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_INTEGERS = {3: 'H', 4: 'I', 13: 'I', 16: 'Q', 18: 'Q'}
_MAX_BYTES = 2**24  # of all values together; cameras stay far below

# Tags and their values: (type, count, packed value), or the directory that the tag leads to.
_Values = dict[int, 'tuple[int, int, bytes] | _Values']


@dataclasses.dataclass(frozen=True)
class _Tag:
  """One entry of a directory: type, number of values, and where they are."""

  kind: int
  count: int
  at: int


class _Reader:
  """The directories of a TIFF structure, classic or BigTIFF."""

  def __init__(self, stream: BinaryIO):
    self._stream = stream
    self._end = stream.seek(0, io.SEEK_END)
    magic = self.bytes(0, 4)
    if magic not in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'):
      raise ValueError('it does not begin as a TIFF structure')
    self.order = '<' if magic[:2] == b'II' else '>'
    big = b'+' in magic
    self._offset, self._count, self._inline = ('Q', 'Q', 8) if big else ('I', 'H', 4)
    self.first = self.number(8 if big else 4, self._offset)

  def bytes(self, at: int, size: int) -> bytes:
    if at + size > self._end:
      raise ValueError(f'it refers to bytes {at} to {at + size}, and has {self._end}')
    self._stream.seek(at)
    return self._stream.read(size)

  def number(self, at: int, kind: str) -> int:
    return struct.unpack(self.order + kind, self.bytes(at, struct.calcsize(kind)))[0]

  def directory(self, at: int) -> tuple[dict[int, _Tag], int]:
    """Returns the tags of the directory at `at`, and where the offset of the next directory stands."""
    head, size = struct.calcsize(self._count), 4 + 2 * self._inline
    count = self.number(at, self._count)
    rows = self.bytes(at + head, count * size)
    tags = {}
    for row in range(0, count * size, size):
      tag, kind, values = struct.unpack_from(f'{self.order}HH{self._offset}', rows, row)
      value_at = at + head + row + size - self._inline
      if _SIZES.get(kind, 0) * values > self._inline:
        value_at = self.number(value_at, self._offset)
      tags[tag] = _Tag(kind, values, value_at)
    return tags, at + head + count * size

  def below(self, tags: dict[int, _Tag], tag: int) -> dict[int, _Tag]:
    """Returns the directory that a tag leads to, empty where there is none or it is damaged."""
    try:
      return self.directory(self.integer(tags.get(tag)) or self._end)[0]
    except ValueError:
      return {}

  def integer(self, tag: _Tag | None) -> int | None:
    """Returns the value of a tag that holds one integer, else None."""
    if tag is None or tag.count != 1 or tag.kind not in _INTEGERS:
      return None
    return self.number(tag.at, _INTEGERS[tag.kind])

  def values(self, *, keep: frozenset[int] | None = None) -> tuple[_Values, set[int]]:
    """Loads the first directory and those below it; returns also the tags whose values are not there."""
    free, lost = _MAX_BYTES, set()

    def load(tags: dict[int, _Tag], parent: int | None) -> _Values:
      nonlocal free
      found: _Values = {}
      for tag, entry in tags.items():
        size = entry.count * _SIZES.get(entry.kind, 0)
        if size > min(free, self._end - entry.at):
          lost.add(tag)
        elif parent is None and keep is not None and tag not in keep:
          continue
        elif tag in _BELOW.get(parent, ()):
          if directory := load(self.below(tags, tag), tag):
            found[tag] = directory
          else:
            lost.add(tag)
        elif entry.kind in _SIZES:
          free -= size
          found[tag] = entry.kind, entry.count, self.bytes(entry.at, size)
      return found

    return load(self.directory(self.first)[0], None), lost


def upright(block: bytes) -> tuple[int, bytes]:
  """Reads the orientation and prepares the block for an image that has been turned accordingly.

  Args:
    block: as found in a file, with or without JPEG's prefix.

  Returns:
    The orientation, 1..8 (1 where it is missing or out of range), and the block with the orientation 1, the sides
    swapped where the image was turned by a quarter, and without the thumbnail, which shows the unrestored image.

  Raises:
    ValueError: if the block is too damaged to tell, with the reason.
  """
  block = block.removeprefix(b'Exif\0\0')
  reader = _Reader(io.BytesIO(block))
  tags, following_at = reader.directory(reader.first)
  edited = bytearray(block)

  def put(tag: _Tag, value: int) -> None:
    struct.pack_into(reader.order + _INTEGERS[tag.kind], edited, tag.at, value)

  orientation = reader.integer(tags.get(_ORIENTATION))
  if orientation is not None:
    put(tags[_ORIENTATION], 1)
  if orientation not in range(1, 9):
    orientation = 1
  if orientation >= 5:
    for directory, names in zip((tags, reader.below(tags, _EXIF)), _SIDES):
      width, height = (directory.get(name) for name in names)
      values = reader.integer(width), reader.integer(height)
      if None not in values and width.kind == height.kind:
        put(width, values[1])
        put(height, values[0])
  _drop_thumbnail(reader, following_at, edited)
  return orientation, bytes(edited)


def _drop_thumbnail(reader: _Reader, following_at: int, edited: bytearray) -> None:
  """Cuts the second directory off and blanks its picture, or cuts that off too where it is the end of the block."""
  try:
    following = reader.number(following_at, 'I')
    if not following:
      return
    edited[following_at : following_at + 4] = bytes(4)
    tags, _ = reader.directory(following)
    for names in _THUMBNAIL:
      start, length = (reader.integer(tags.get(name)) for name in names)
      if start and length and following < start < len(edited):
        blank = bytes(len(edited[start : start + length]))
        edited[start : start + length] = blank
        if start + length >= len(edited):
          del edited[start:]
  except ValueError:
    return  # no second directory, or one that leads nowhere


def order(block: bytes) -> str:
  """Returns the byte order of a block, as `struct` and numpy write it.

  Raises:
    ValueError: if the block does not begin as one.
  """
  return _Reader(io.BytesIO(block)).order


def from_tiff(stream: BinaryIO) -> tuple[bytes | None, set[int]]:
  """Gathers the descriptive tags of a TIFF file's first page.

  Args:
    stream: the file.

  Returns:
    An EXIF block, None where the file has no such tag; and the tags, of any kind, whose values are not in the file.

  Raises:
    ValueError: if the file's first directory is damaged.
  """
  reader = _Reader(stream)
  values, lost = reader.values(keep=_DESCRIPTIVE)
  head = (b'II*\0' if reader.order == '<' else b'MM\0*') + struct.pack(reader.order + 'I', 8)
  return (head + _pack(values, reader.order, 8) if values else None), lost


def into_tiff(stream: BinaryIO, block: bytes) -> None:
  """Adds the descriptive tags of an EXIF block to the first page of a TIFF file.

  Args:
    stream: a classic TIFF file in the byte order of the block, readable and writable; a new directory is appended.
    block: the EXIF block.

  Raises:
    ValueError: if the block is damaged.
  """
  reader = _Reader(stream)
  values = reader.values()[0] | _Reader(io.BytesIO(block)).values(keep=_DESCRIPTIVE)[0]
  end = stream.seek(0, io.SEEK_END)
  at = end + end % 2
  stream.write(bytes(at - end) + _pack(values, reader.order, at))
  stream.seek(4)
  stream.write(struct.pack(reader.order + 'I', at))


def _pack(values: _Values, byte_order: str, at: int) -> bytes:
  """Packs a directory, with all that it refers to behind it, to stand at the even offset `at`."""
  rows, behind = [], bytearray()
  behind_at = at + 2 + 12 * len(values) + 4
  for tag, value in sorted(values.items()):
    if isinstance(value, dict):
      kind, count, long = 4, 1, _pack(value, byte_order, behind_at + len(behind))
    else:
      kind, count, long = value
    if isinstance(value, dict) or len(long) > 4:
      packed = struct.pack(byte_order + 'I', behind_at + len(behind))
      behind += long + bytes(len(long) % 2)
    else:
      packed = long
    rows.append(struct.pack(byte_order + 'HHI4s', tag, kind, count, packed))
  return struct.pack(byte_order + 'H', len(rows)) + b''.join(rows) + bytes(4) + behind
