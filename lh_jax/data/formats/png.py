"""PNG files of 8 and 16 bits: the chunks are read here, the pixels by libpng.

Only what holds pixels is handed to libpng, so that damaged descriptions cannot harm. Gamma and chromaticity chunks are
not applied, since values are the encoded ones, nor kept: a profile is what keeps colours. Pillow is no way for PNG,
since it reduces 16-bit colours to 8.
"""

from __future__ import annotations

from collections.abc import Iterator
import functools
import io
import itertools
import struct
from typing import BinaryIO
import zlib

import imagecodecs
import numpy as np

from lh_jax.data.formats import header

SIGNATURE = b'\x89PNG\r\n\x1a\n'
_PIXELS = (b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND')
_DESCRIPTIONS = (b'IHDR', b'acTL', b'cHRM', b'cICP', b'eXIf', b'gAMA', b'iCCP', b'pHYs', b'sRGB')
_TAIL = 2**18  # bytes at the end of the file in which an EXIF chunk is looked for
_SRGB = b'\x01\x0d\x00\x01'  # the value of cICP that says what is assumed anyway
# What gAMA and cHRM hold for sRGB (PNG specification, 11.3.2.5): 1 / 2.2 and the primaries, times 100 000.
_SRGB_GAMA = struct.pack('>I', 45455)
_SRGB_CHRM = struct.pack('>8I', 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_MAX_ICC = 2**24
_METRE = 0.0254  # inches to metres


def read(stream: BinaryIO) -> header.Header:
  """Reads the header of a PNG file.

  Args:
    stream: the file.

  Returns:
    The header; 1, 2 and 4 bits become 8, palettes RGB.

  Raises:
    ValueError: if the file is cut short or damaged, with the reason.
  """
  early = itertools.takewhile(lambda chunk: chunk[0] != b'IDAT', _chunks(stream))
  found = {name: _data(stream, at, size) for name, at, size in early if name in _DESCRIPTIONS}
  if len(found.get(b'IHDR', b'')) != 13:
    raise ValueError('it has no PNG header')
  width, height, depth, colour = struct.unpack('>IIBB', found[b'IHDR'][:10])
  notes = []
  if colour == 3:
    notes.append('palette converted to RGB')
  elif depth < 8:
    notes.append(f'{depth}-bit pixels read as 8-bit')
  if b'acTL' in found:
    notes.append('animation: only its still picture read')
  if found.get(b'cICP', _SRGB) != _SRGB:
    notes.append('its colour space (cICP) is not kept: colours may look different')
  if not found.keys() & {b'iCCP', b'sRGB'} and found.keys() & {b'gAMA', b'cHRM'} and not _tells_srgb(found):
    notes.append('its gamma and primaries (gAMA, cHRM) are not kept: colours may look different')
  icc = _icc(found[b'iCCP']) if b'iCCP' in found else None
  if b'iCCP' in found and icc is None:
    notes.append('damaged colour profile dropped')
  density = found.get(b'pHYs', b'')
  x, y, unit = struct.unpack('>IIB', density) if len(density) == 9 else (0, 0, 0)
  return header.Header(
    height=height,
    width=width,
    decode=functools.partial(_decode, stream),
    icc=icc,
    exif=found.get(b'eXIf') or _late_exif(stream),
    dpi=(x * _METRE, y * _METRE) if unit == 1 else None,
    notes=tuple(notes),
  )


def _tells_srgb(found: dict[bytes, bytes]) -> bool:
  """Whether the chunks of gamma and primaries say what is assumed anyway."""
  return found.get(b'gAMA', _SRGB_GAMA) == _SRGB_GAMA and found.get(b'cHRM', _SRGB_CHRM) == _SRGB_CHRM


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
  """Yields (name, offset, data size) of the chunks, to the last one."""
  end = stream.seek(0, io.SEEK_END)
  name, at = b'', len(SIGNATURE)
  while name != b'IEND':
    stream.seek(at)
    size, name = struct.unpack('>I4s', stream.read(8).ljust(8, b'\xff'))
    yield name, at, size
    at += size + 12
    if at > end:  # after the chunk: who stops at the pixels, for the header, does not need them
      raise ValueError(f'it is cut short: its {end} bytes end inside a chunk')


def _data(stream: BinaryIO, at: int, size: int) -> bytes:
  stream.seek(at + 8)
  return stream.read(size)


def _icc(data: bytes) -> bytes | None:
  """Unpacks a colour profile, None where it is damaged; never more than any real one holds."""
  unpacker = zlib.decompressobj()
  try:
    profile = unpacker.decompress(data.partition(b'\0')[2][1:], _MAX_ICC)
  except zlib.error:
    return None
  return profile if unpacker.eof else None


def _late_exif(stream: BinaryIO) -> bytes | None:
  """Looks from the end for an EXIF chunk behind the pixels, rather than leap through their thousands of chunks."""
  end = stream.seek(0, io.SEEK_END)
  stream.seek(max(0, end - _TAIL))
  tail = stream.read()
  at = tail.rfind(b'eXIf')
  if at < 4:
    return None
  behind = at + 4 + int.from_bytes(tail[at - 4 : at])
  genuine = zlib.crc32(tail[at:behind]) == int.from_bytes(tail[behind : behind + 4])
  return tail[at + 4 : behind] if genuine else None


def _decode(stream: BinaryIO) -> np.ndarray:
  # One read into memory, then views: a photograph has thousands of chunks.
  chunks = list(_chunks(stream))
  stream.seek(0)
  data = memoryview(stream.read())
  parts = [data[at : at + size + 12] for name, at, size in chunks if name in _PIXELS]
  for part in parts:  # libpng would stop at a damaged chunk too, but not always say so
    if zlib.crc32(part[4:-4]) != int.from_bytes(part[-4:]):
      raise ValueError(f'its {bytes(part[4:8]).decode("ascii", "replace")} chunk is damaged (checksum)')
  pixels = imagecodecs.png_decode(b''.join([SIGNATURE, *parts]))
  return pixels[:, :, None] if pixels.ndim == 2 else pixels


def write(
  stream: BinaryIO,
  pixels: np.ndarray,
  *,
  icc: bytes | None,
  exif: bytes | None,
  dpi: tuple[float, float] | None,
  quality: int,
) -> None:
  """Writes a PNG file.

  Run lengths alone, after the Paeth filter: on photographs as small as zlib's level 6 and some ten times faster.

  Args:
    stream: the new file.
    pixels: (height, width, 1 to 4 channels), uint8 or uint16.
    icc: colour profile, written byte for byte.
    exif: EXIF block.
    dpi: dots per inch (x, y).
    quality: has no meaning for PNG, which is lossless.
  """
  del quality
  encoded = imagecodecs.png_encode(
    np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels),
    level=imagecodecs.PNG.COMPRESSION.SPEED,
    strategy=imagecodecs.PNG.STRATEGY.RLE,
    filter=imagecodecs.PNG.FILTER.PAETH,
  )
  after_header = len(SIGNATURE) + 12 + 13
  stream.write(encoded[:after_header])
  if icc is not None:
    stream.write(_chunk(b'iCCP', b'ICC profile\0\0' + zlib.compress(icc)))
  if dpi is not None:
    stream.write(_chunk(b'pHYs', struct.pack('>IIB', *(round(value / _METRE) for value in dpi), 1)))
  if exif is not None:
    stream.write(_chunk(b'eXIf', exif))
  stream.write(memoryview(encoded)[after_header:])


def _chunk(name: bytes, data: bytes) -> bytes:
  return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
