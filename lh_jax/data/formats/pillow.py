"""JPEG, BMP and PPM files, through Pillow.

The format's own class is used instead of `PIL.Image.open`: which format it is the bytes have told, and the limit on the
size is the caller's, not Pillow's process-wide one.

JPEG has no checksum: a file that is cut short is refused, but one whose bytes were changed inside is decoded to what
they say, here as in every viewer. The same holds for WebP with loss.
"""

from __future__ import annotations

import functools
from typing import BinaryIO

import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PpmImagePlugin

from lh_jax.data.formats import header

_MODES = {'1': 'L', 'L': 'L', 'P': 'RGB', 'RGB': 'RGB', 'RGBA': 'RGBA', 'CMYK': 'CMYK', 'I': 'I'}  # of file, of array
_EXIF = b'Exif\0\0'
_MAX_EXIF = 65533 - len(_EXIF)  # bytes in one JPEG segment
_UNITS = {1: 1.0, 2: 2.54}  # of the JFIF density, in inches


class _Jpeg(JpegImagePlugin.JpegImageFile):
  """Pillow's, without its search of the EXIF block for a resolution, which warns of every damaged block."""

  def getexif(self) -> Image.Exif:
    return Image.Exif()


def read_jpeg(stream: BinaryIO) -> header.Header:
  """Reads the header of a JPEG file.

  Args:
    stream: the file.

  Returns:
    The header.

  Raises:
    Exception: as Pillow does, if the file is damaged.
  """
  image = _Jpeg(stream)
  notes = []
  if 'mp' in image.info:
    notes.append('several pictures in the file: only the first read')
  if 'icc_profile' in image.info and image.info['icc_profile'] is None:
    notes.append('damaged colour profile dropped')
  unit = _UNITS.get(image.info.get('jfif_unit'))
  return _header(
    image,
    icc=image.info.get('icc_profile'),
    exif=image.info.get('exif'),
    dpi=tuple(value * unit for value in image.info['jfif_density']) if unit else None,
    notes=notes,
  )


def read_bmp(stream: BinaryIO) -> header.Header:
  """Reads the header of a BMP file; as `read_jpeg`."""
  return _header(BmpImagePlugin.BmpImageFile(stream))


def read_ppm(stream: BinaryIO) -> header.Header:
  """Reads the header of a PPM, PGM or PBM file; as `read_jpeg`."""
  image = PpmImagePlugin.PpmImageFile(stream)
  args = image.tile[0].args
  deep = image.mode == 'RGB' and isinstance(args, tuple) and args[1] > 255
  return _header(image, notes=['16-bit colours read with 8 bits: save it as PNG or TIFF to keep them'] if deep else [])


def _header(image: ImageFile.ImageFile, *, notes: list[str] | None = None, **fields) -> header.Header:
  notes = notes or []
  if image.mode not in _MODES:
    raise ValueError(f'pixel type {image.mode!r} is not supported; save it with 8 or 16 bits a channel')
  if image.mode == 'P':
    notes.append('palette converted to RGB')
  if image.mode == '1':
    notes.append('1-bit pixels read as 8-bit')
  width, height = image.size
  return header.Header(
    height=height,
    width=width,
    decode=functools.partial(_decode, image),
    cmyk=image.mode == 'CMYK',
    notes=tuple(notes),
    **fields,
  )


def _decode(image: ImageFile.ImageFile) -> np.ndarray:
  image.load()
  pixels = np.array(image.convert(_MODES[image.mode]))
  if pixels.dtype == np.int32:  # what Pillow makes of 16-bit grey
    pixels = pixels.astype(np.uint16)
  return pixels[:, :, None] if pixels.ndim == 2 else pixels


def write_jpeg(
  stream: BinaryIO,
  pixels: np.ndarray,
  *,
  icc: bytes | None,
  exif: bytes | None,
  dpi: tuple[float, float] | None,
  quality: int,
) -> list[str]:
  """Writes a JPEG file.

  Args:
    stream: the new file.
    pixels: (height, width, 1 or 3), uint8.
    icc: colour profile, written byte for byte.
    exif: EXIF block.
    dpi: dots per inch (x, y).
    quality: 1..100; the colours are not subsampled from 90 up.

  Returns:
    What could not be written.
  """
  notes = []
  options = {'subsampling': 0} if quality >= 90 else {}
  if exif is not None and len(exif) > _MAX_EXIF:
    notes.append(f'EXIF dropped: its {len(exif)} bytes are more than the {_MAX_EXIF} that JPEG can hold')
  elif exif is not None:
    options['exif'] = _EXIF + exif
  if dpi is not None:
    options['dpi'] = tuple(min(round(value), 65535) for value in dpi)
  image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
  image.save(stream, format='JPEG', quality=quality, icc_profile=icc, **options)
  return notes
