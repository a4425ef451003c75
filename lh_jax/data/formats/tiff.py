"""TIFF files, classic and big: the tags are read by tifffile, the pixels by libtiff; written by tifffile.

Read are grey, RGB, palette and CMYK pages of 1 to 16 bits, in strips or tiles, contiguous or planar. Not read are
signed and floating-point pixels, whose white is not known, and other colour spaces. tifffile does not read the pixels,
because its LZW decoder can take the process down on damaged files.
"""

from __future__ import annotations

import functools
import io
import struct
from typing import BinaryIO

import imagecodecs
import numpy as np
import tifffile

from lh_jax.data.formats import exif as exif_blocks
from lh_jax.data.formats import header

_GREY, _GREY_INVERTED = tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE
_PALETTE, _RGB = tifffile.PHOTOMETRIC.PALETTE, tifffile.PHOTOMETRIC.RGB
_YCBCR, _CMYK = tifffile.PHOTOMETRIC.YCBCR, tifffile.PHOTOMETRIC.SEPARATED
_CHANNELS = {_GREY: 1, _GREY_INVERTED: 1, _PALETTE: 1, _RGB: 3, _YCBCR: 3, _CMYK: 4}  # without extra ones
_JPEG = tifffile.COMPRESSION.JPEG
_ASSOCIATED, _UNASSOCIATED = tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA
_PHOTOMETRIC, _ORIENTATION, _INK_SET, _ICC = 262, 274, 332, 34675  # tags
_CMYK_INKS = 1
_MAX_TILE = 2**24  # pixels; a tile may be larger than the image, but not without bounds


def read(stream: BinaryIO) -> header.Header:
  """Reads the header of a TIFF file; of several pages, the first.

  Args:
    stream: the file.

  Returns:
    The header; its EXIF block holds the descriptive tags of the page.

  Raises:
    ValueError: if the file is cut short or damaged, or its pixels are of a type that is not read, with the reason.
  """
  tif = tifffile.TiffFile(stream)
  if not len(tif.pages):
    raise ValueError('it is cut short or damaged: it has no page')
  page = tif.pages.first
  channels = _channels(page)
  end = stream.seek(0, io.SEEK_END)
  pieces = list(zip(page.dataoffsets, page.databytecounts))
  if not pieces or any(size == 0 or at + size > end for at, size in pieces):
    raise ValueError(f'it is cut short: some of its pixels are not in its {end} bytes')

  notes = []
  if len(tif.pages) > 1:
    notes.append(f'{len(tif.pages)} pages: only the first read')
  if page.photometric == _PALETTE:
    notes.append('palette converted to RGB')
  elif page.bitspersample not in (8, 16):
    notes.append(f'{page.bitspersample}-bit pixels read as {8 if page.bitspersample < 8 else 16}-bit')
  extra = page.samplesperpixel - channels
  kinds = page.extrasamples or (_UNASSOCIATED,) * extra  # as other readers take a missing tag
  alpha = next((index for index, kind in enumerate(kinds[:extra]) if kind in (_ASSOCIATED, _UNASSOCIATED)), None)
  if extra > (alpha is not None):
    notes.append(f'{extra - (alpha is not None)} extra channels dropped')
  premultiplied = alpha is not None and kinds[alpha] == _ASSOCIATED
  if premultiplied:
    notes.append('colours divided by their alpha')
  exif, lost = exif_blocks.from_tiff(stream)
  if _ICC in lost:
    notes.append('damaged colour profile dropped')
  if lost - {_ICC}:
    notes.append(f'tags dropped whose values are not in the file: {", ".join(map(str, sorted(lost - {_ICC})))}')
  keep = [*range(channels), *([] if alpha is None else [channels + alpha])]
  return header.Header(
    height=page.imagelength,
    width=page.imagewidth,
    decode=functools.partial(_decode, stream, page, keep, premultiplied),
    cmyk=page.photometric == _CMYK,
    icc=page.iccprofile,
    exif=exif,
    notes=tuple(notes),
  )


def _channels(page: tifffile.TiffPage) -> int:
  """Checks that the page holds pixels that can be read; returns the number of channels without extra ones."""
  if page.subfiletype & 1:
    raise ValueError('its first page is a reduced copy of another image, as in raw files; convert it first')
  channels = _CHANNELS.get(page.photometric)
  if (
    channels is None
    or page.samplesperpixel < channels
    or page.tags.valueof(_INK_SET, default=_CMYK_INKS) != _CMYK_INKS
    or _as_rgb(page)
    and (page.samplesperpixel > 3 or page.bitspersample != 8 or page.photometric in (_GREY_INVERTED, _PALETTE))
  ):
    name = getattr(page.photometric, 'name', page.photometric)
    raise ValueError(
      f'{page.samplesperpixel} channels of photometric interpretation {name} in this compression are not supported; '
      'save it as grey, RGB or CMYK, without compression'
    )
  if page.sampleformat != tifffile.SAMPLEFORMAT.UINT or not 1 <= page.bitspersample <= 16:
    kind = {2: 'signed', 3: 'floating-point'}.get(page.sampleformat, 'unsigned')
    raise ValueError(
      f'pixel type {page.bitspersample}-bit {kind} is not supported; save it with 8 or 16 bits a channel'
    )
  if page.axes not in ('YX', 'YXS', 'SYX'):
    raise ValueError(f'it is a volume (axes {page.axes}), not an image')
  if page.photometric == _PALETTE and np.shape(page.colormap) != (3, 2**page.bitspersample):
    raise ValueError('its colour map is damaged')
  if page.is_tiled and page.tilewidth * page.tilelength > _MAX_TILE:
    raise ValueError(f'its tiles of {page.tilewidth}x{page.tilelength} pixels are larger than any real ones')
  return channels


def _as_rgb(page: tifffile.TiffPage) -> bool:
  """Whether libtiff decodes the page to contiguous 8-bit RGB by itself, mixing in alpha or ink if there is any."""
  return page.compression == _JPEG or page.photometric == _YCBCR


def _decode(stream: BinaryIO, page: tifffile.TiffPage, keep: list[int], premultiplied: bool) -> np.ndarray:
  stream.seek(0)
  data = bytearray(stream.read())
  # libtiff shall neither turn the image nor convert CMYK, which it would do without the profile.
  for code, value in ((_ORIENTATION, 1), (_PHOTOMETRIC, _RGB if page.photometric == _CMYK else page.photometric)):
    if code in page.tags:
      struct.pack_into(page.parent.byteorder + 'H', data, page.tags[code].valueoffset, value)
  stored = imagecodecs.tiff_decode(data)
  if stored.ndim == 2:
    stored = stored[:, :, None]
  elif page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and not _as_rgb(page):
    stored = np.moveaxis(stored, 0, -1)
  if page.photometric == _PALETTE:
    # Colour maps have 16 bits, of which writers fill the upper 8 with, or without, repeating them in the lower.
    return (page.colormap >> 8).astype(np.uint8).T[stored[:, :, 0]]
  pixels = _widen(stored[:, :, keep] if len(keep) < stored.shape[2] else stored, page.bitspersample)
  top = np.iinfo(pixels.dtype).max
  if page.photometric == _GREY_INVERTED:
    pixels = np.concatenate([top - pixels[:, :, :1], pixels[:, :, 1:]], axis=2)
  if premultiplied:
    alpha = pixels[:, :, -1:].astype(np.uint32)
    straight = (pixels[:, :, :-1] * np.uint32(top) + alpha // 2) // np.maximum(alpha, 1)
    straight = np.where(alpha, np.minimum(straight, top), 0).astype(pixels.dtype)
    pixels = np.concatenate([straight, pixels[:, :, -1:]], axis=2)
  return pixels


def _widen(values: np.ndarray, bits: int) -> np.ndarray:
  """Scales 1 to 7 bits to 8 and 9 to 15 bits to 16, rounding."""
  dtype = np.uint8 if bits <= 8 else np.uint16
  if bits in (8, 16):
    return values.astype(dtype, copy=False)
  top, full = np.iinfo(dtype).max, 2**bits - 1
  return ((values.astype(np.uint32) * (2 * top) + full) // (2 * full)).astype(dtype)


def write(
  stream: BinaryIO,
  pixels: np.ndarray,
  *,
  icc: bytes | None,
  exif: bytes | None,
  dpi: tuple[float, float] | None,
  quality: int,
) -> None:
  """Writes a TIFF file, compressed without loss (deflate).

  Args:
    stream: the new file, readable too.
    pixels: (height, width, 1 to 4 channels), uint8 or uint16.
    icc: colour profile, written byte for byte.
    exif: EXIF block; its descriptive tags become those of the file.
    dpi: dots per inch (x, y), where the EXIF block does not tell.
    quality: has no meaning for TIFF, which is lossless here.

  Raises:
    ValueError: if the EXIF block is damaged.
  """
  del quality
  channels = pixels.shape[2]
  tifffile.imwrite(
    stream,
    pixels[:, :, 0] if channels == 1 else pixels,
    bigtiff=False,
    byteorder='<' if exif is None else exif_blocks.order(exif),
    photometric='minisblack' if channels < 3 else 'rgb',
    planarconfig=None if channels == 1 else 'contig',
    extrasamples=['unassalpha'] if channels in (2, 4) else None,
    compression='zlib',
    compressionargs={'level': 1},  # three times faster than the default, and as small
    predictor=True,
    iccprofile=icc,
    resolution=dpi,
    software=False,
    metadata=None,
  )
  if exif is not None:
    exif_blocks.into_tiff(stream, exif)
