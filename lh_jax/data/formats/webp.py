"""WebP files: the chunks are read here, the pixels by libwebp; written through Pillow."""

from __future__ import annotations

import functools
import io
import struct
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import Image

from lh_jax.data.formats import header


def read(stream: BinaryIO) -> header.Header:
  """Reads the header of a WebP file.

  Args:
    stream: the file.

  Returns:
    The header.

  Raises:
    ValueError: if the file is cut short or damaged, with the reason.
  """
  chunks = _chunks(stream)

  def data(name: bytes) -> bytes | None:
    if name not in chunks:
      return None
    stream.seek(chunks[name][0])
    return stream.read(chunks[name][1])

  name = next(iter(chunks), b'')
  height, width = _size(name, data(name))
  return header.Header(
    height=height,
    width=width,
    decode=functools.partial(_decode, stream),
    icc=data(b'ICCP'),
    exif=data(b'EXIF'),
    notes=('animation: only its first picture read',) if b'ANIM' in chunks else (),
  )


def _chunks(stream: BinaryIO) -> dict[bytes, tuple[int, int]]:
  """Returns (offset, size) of the data of the first chunk of each name, in the order of the file."""
  end = stream.seek(0, io.SEEK_END)
  stream.seek(4)
  total = 8 + int.from_bytes(stream.read(4), 'little')
  chunks, at = {}, 12
  while at + 8 <= total <= end:
    stream.seek(at)
    name, size = struct.unpack('<4sI', stream.read(8))
    chunks.setdefault(name, (at + 8, size))
    at += 8 + size + size % 2
  if at > total or total > end:
    raise ValueError(f'it is cut short: its {end} bytes end inside a chunk')
  return chunks


def _size(name: bytes, data: bytes | None) -> tuple[int, int]:
  """Reads (height, width) from the first chunk: of extended files, and of simple ones without and with loss."""
  if name == b'VP8X' and len(data) >= 10:
    return int.from_bytes(data[7:10], 'little') + 1, int.from_bytes(data[4:7], 'little') + 1
  if name == b'VP8L' and len(data) >= 5:
    bits = int.from_bytes(data[1:5], 'little')
    return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
  if name == b'VP8 ' and len(data) >= 10:
    width, height = struct.unpack_from('<HH', data, 6)
    return height & 0x3FFF, width & 0x3FFF
  raise ValueError('its first chunk is not a WebP header')


def _decode(stream: BinaryIO) -> np.ndarray:
  stream.seek(0)
  return imagecodecs.webp_decode(stream.read())


def write(
  stream: BinaryIO,
  pixels: np.ndarray,
  *,
  icc: bytes | None,
  exif: bytes | None,
  dpi: tuple[float, float] | None,
  quality: int,
) -> None:
  """Writes a WebP file with loss; alpha, and the colours under it, are kept.

  Args:
    stream: the new file.
    pixels: (height, width, 3 or 4), uint8.
    icc: colour profile, written byte for byte.
    exif: EXIF block.
    dpi: has no place in WebP outside EXIF.
    quality: 1..100.

  Raises:
    ValueError: if libwebp gives up, which may happen close to the largest size.
  """
  del dpi
  image = Image.fromarray(pixels)
  try:
    image.save(stream, format='WEBP', quality=quality, exact=True, icc_profile=icc or b'', exif=exif or b'')
  except ValueError as error:
    raise ValueError(f'WebP cannot hold it ({error}); write it as PNG or TIFF') from error
