"""The formats there are: told by their first bytes when read, by the suffix when written."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import re
from typing import BinaryIO

from lh_jax.data.formats import header
from lh_jax.data.formats import pillow
from lh_jax.data.formats import png
from lh_jax.data.formats import tiff
from lh_jax.data.formats import webp

_READERS = (
  (re.compile(re.escape(png.SIGNATURE)), png.read, ('.png',)),
  (re.compile(rb'\xff\xd8\xff'), pillow.read_jpeg, ('.jpg', '.jpeg')),
  (re.compile(rb'II[*+]\0|MM\0[*+]'), tiff.read, ('.tif', '.tiff')),
  (re.compile(rb'RIFF.{4}WEBP', re.DOTALL), webp.read, ('.webp',)),
  (re.compile(rb'BM'), pillow.read_bmp, ('.bmp',)),
  (re.compile(rb'P[1-6]\s'), pillow.read_ppm, ('.ppm',)),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
  """A format that can be written.

  Attributes:
    name: as people call it.
    write: writes (stream, pixels, *, icc, exif, dpi, quality); may return notes.
    max_side: the largest width or height.
    sixteen_bits: whether it holds uint16; if not, it is given uint8.
    alpha: whether it is given a channel of alpha.
    grey: whether it is given a single channel of colour.
  """

  name: str
  write: Callable[..., list[str] | None]
  max_side: int
  sixteen_bits: bool
  alpha: bool
  grey: bool


_PNG = Kind(name='PNG', write=png.write, max_side=1_000_000, sixteen_bits=True, alpha=True, grey=True)
_TIFF = Kind(name='TIFF', write=tiff.write, max_side=2**31 - 1, sixteen_bits=True, alpha=True, grey=True)
_JPEG = Kind(name='JPEG', write=pillow.write_jpeg, max_side=65500, sixteen_bits=False, alpha=False, grey=True)
_WEBP = Kind(name='WebP', write=webp.write, max_side=16383, sixteen_bits=False, alpha=True, grey=False)
WRITABLE = {'.png': _PNG, '.jpg': _JPEG, '.jpeg': _JPEG, '.webp': _WEBP, '.tif': _TIFF, '.tiff': _TIFF}


def read_header(stream: BinaryIO) -> header.Header:
  """Reads the header of an image file.

  Args:
    stream: the file, at its beginning.

  Returns:
    The header.

  Raises:
    ValueError: if it is empty or of no format that can be read; else as the format's own reader.
  """
  head = stream.read(16)
  if not head:
    raise ValueError('it is empty')
  for magic, read, _ in _READERS:
    if magic.match(head):
      stream.seek(0)
      return read(stream)
  raise ValueError('it is not a PNG, JPEG, TIFF, WebP, BMP or PPM file')


def suffixes(head: bytes) -> tuple[str, ...]:
  """The suffixes that files with these first bytes bear by custom.

  Args:
    head: the first 16 bytes.

  Returns:
    Suffixes in lower case; none for a format that is not read.
  """
  return next((names for magic, _, names in _READERS if magic.match(head)), ())
