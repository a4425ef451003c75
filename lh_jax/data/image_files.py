"""Image files: photographs in, photographs out; the one door to their formats.

Contract: pixels are (height, width, 3) RGB arrays, uint8 (0..255) or uint16 (0..65535, where the file has more than 8
bits), as a viewer shows them: the EXIF orientation is applied, grey and palette files are spread over three channels,
CMYK is converted. Values are the encoded (display) values; colour profiles are kept, not applied. What `read_photo`
returns, `write_photo` writes: alpha, greyness, colour profile and EXIF data stay; XMP, IPTC and comments do not.
The bytes decide what a file is, not its name. Every error names the file and the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
import os
from pathlib import Path

import numpy as np

from lh_jax.data import unfinished
from lh_jax.data.formats import cmyk
from lh_jax.data.formats import exif as exif_blocks
from lh_jax.data.formats import known
from lh_jax.data.formats.header import Header

READABLE = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')
WRITABLE = tuple(known.WRITABLE)
METADATA = ('keep', 'strip')
MAX_PIXELS = 2**28  # 16384 x 16384

# By EXIF orientation: transpose, then reverse the rows, then the columns.
_TURNS = {
  1: (False, False, False),
  2: (False, False, True),
  3: (False, True, True),
  4: (False, True, False),
  5: (True, False, False),
  6: (True, False, True),
  7: (True, True, True),
  8: (True, True, False),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Photo:
  """A photograph and what its file tells about it.

  Attributes:
    pixels: (height, width, 3) RGB, uint8 or uint16, upright.
    alpha: (height, width) of the same type, None where the file has none; `pixels` are not multiplied by it.
    grey: whether the file is grey; it is written grey again, as the rounded mean of the three channels.
    icc: the embedded colour profile, byte for byte.
    exif: the EXIF block, from its TIFF header on, with the orientation 1 and no thumbnail.
    notes: what was converted or dropped.
    dpi: dots per inch (x, y) where the file tells them outside its EXIF block.
  """

  pixels: np.ndarray
  alpha: np.ndarray | None = None
  grey: bool = False
  icc: bytes | None = None
  exif: bytes | None = None
  notes: tuple[str, ...] = ()
  dpi: tuple[float, float] | None = None


def list_images(folder: str | Path) -> list[Path]:
  """Lists the image files below a folder.

  Args:
    folder: the folder; searched recursively. Hidden files and folders (leading dot) are left out.

  Returns:
    Paths in the order of their relative path; files are recognised by `READABLE` suffixes, in any case.

  Raises:
    FileNotFoundError: if the folder does not exist or is not a folder.
  """
  folder = Path(folder)
  if not folder.is_dir():
    reason = 'is not a folder' if folder.exists() else 'does not exist'
    raise FileNotFoundError(f'image folder {str(folder)!r} {reason}')
  found = []
  for here, folders, files in os.walk(folder, followlinks=True):
    folders[:] = [name for name in folders if not name.startswith('.')]
    found += [Path(here, name) for name in files if not name.startswith('.') and Path(name).suffix.lower() in READABLE]
  return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def renamed(path: str | Path) -> str:
  """Tells of a file that is not what its suffix says, such as a JPEG saved as PNG; empty where it is.

  Args:
    path: an image file.
  """
  path = Path(path)
  with path.open('rb') as stream:
    kinds = known.suffixes(stream.read(16))
  return '' if path.suffix.lower() in kinds or not kinds else f'its bytes are those of a {kinds[0]} file'


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Header]:
  """Gives the file's header; whatever goes wrong meanwhile becomes an error that names the file."""
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'image file {str(path)!r} {"is not a file" if path.exists() else "does not exist"}')
  try:
    with path.open('rb') as stream:
      yield known.read_header(stream)
  except Exception as error:  # Decoders raise almost anything on damaged files, each by its own habit.
    reason = str(error) if isinstance(error, (ValueError, OSError)) else repr(error)
    raise ValueError(f'cannot read image file {str(path)!r}: {reason}') from error


def _upright(header: Header) -> tuple[int, bytes | None, list[str]]:
  """The orientation still to be applied, the EXIF block for afterwards, and notes; damaged blocks count for nothing."""
  if header.exif is None:
    return 1, None, []
  try:
    return *exif_blocks.upright(header.exif), []
  except ValueError as error:
    return 1, None, [f'damaged EXIF dropped: {error}']


def size(path: str | Path) -> tuple[int, int]:
  """Reads (height, width) from the header, EXIF orientation applied, without decoding the pixels.

  Args:
    path: the image file.

  Returns:
    The height and width that `read_rgb` returns.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is not a readable image.
  """
  with _opened(path) as header:
    transpose, _, _ = _TURNS[_upright(header)[0]]
    return (header.width, header.height) if transpose else (header.height, header.width)


def read_photo(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Photo:
  """Reads one photograph with what belongs to it.

  Args:
    path: the image file.
    max_pixels: larger images are refused on their header, before memory is taken for them.

  Returns:
    The photograph; its arrays are owned by the caller.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is not an image, is damaged, cut short or too large, or has pixels of a type that is not read.
  """
  with _opened(path) as header:
    if not 0 < header.height * header.width <= max_pixels:
      raise ValueError(f'{header.width}x{header.height} pixels are not within 1 to {max_pixels} (max_pixels)')
    orientation, exif, notes = _upright(header)
    pixels, icc = header.decode(), header.icc
    if header.cmyk:
      colours, note = cmyk.to_rgb(pixels[:, :, :4], icc)
      pixels, icc, notes = np.concatenate([colours, pixels[:, :, 4:]], axis=2), None, [note, *notes]
    if pixels.shape[:2] != (header.height, header.width):
      raise ValueError(f'its pixels, {pixels.shape}, are not as many as its header says')
  transpose, rows, columns = _TURNS[orientation]
  pixels = pixels.swapaxes(0, 1) if transpose else pixels
  pixels = pixels[:: -1 if rows else 1, :: -1 if columns else 1]
  *_, channels = pixels.shape
  return Photo(
    pixels=np.array(pixels[:, :, :3], order='C') if channels > 2 else np.repeat(pixels[:, :, :1], 3, axis=2),
    alpha=np.array(pixels[:, :, -1], order='C') if channels in (2, 4) else None,
    grey=channels <= 2,
    icc=icc,
    exif=exif,
    notes=(*header.notes, *notes),
    dpi=header.dpi[::-1] if header.dpi and transpose else header.dpi,
  )


def read_rgb(path: str | Path) -> np.ndarray:
  """Reads the pixels of one image: `read_photo(path).pixels`, with its errors."""
  return read_photo(path).pixels


def to_uint8(image: np.ndarray) -> np.ndarray:
  """Converts pixels to 8 bits, rounding to the nearest level (half up).

  Args:
    image: array of any shape: uint8, uint16, or float, which is clipped to [0, 1].

  Returns:
    uint8 array of the same shape.

  Raises:
    ValueError: if a value is NaN or infinite.
  """
  image = np.asarray(image)
  if image.dtype == np.uint8:
    return image
  if image.dtype == np.uint16:
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257
  image = image.astype(np.float32, copy=False)
  if not np.isfinite(image).all():
    raise ValueError(
      f'image of shape {image.shape} holds values that are not finite: the model that made it has '
      'diverged or overflowed'
    )
  return np.floor(np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def check_can_hold(path: str | Path, photo: Photo) -> None:
  """Checks, before any work is done on it, that the format of a file can hold a photograph of this size.

  Args:
    path: the file that is going to be written.
    photo: the photograph.

  Raises:
    ValueError: the suffix is not one of `WRITABLE`, or a side is too long for the format.
  """
  path = Path(path)
  kind, (height, width, *_) = _kind(path), photo.pixels.shape
  if max(height, width) > kind.max_side:
    raise ValueError(
      f'cannot write {str(path)!r}: {kind.name} holds up to {kind.max_side} pixels a side, not {width}x{height}'
    )


def write_photo(path: str | Path, photo: Photo, *, metadata: str = 'keep', quality: int = 95) -> tuple[str, ...]:
  """Writes one photograph; the format follows the suffix.

  The file appears whole or not at all: it is written beside its final place and renamed. Folders are made.

  Args:
    path: where to; the suffix is one of `WRITABLE`.
    photo: the photograph.
    metadata: 'keep', or 'strip' to leave out EXIF and resolution; the colour profile belongs to the pixels and stays.
    quality: 1..100 for JPEG (4:4:4 from 90 up) and WebP; PNG and TIFF are lossless.

  Returns:
    Notes on what the format cannot hold.

  Raises:
    ValueError: if an argument is out of its range, or the format cannot hold the image.
  """
  path = Path(path)
  kind = _kind(path)
  if metadata not in METADATA:
    raise ValueError(f'metadata is {metadata!r}; it must be one of {", ".join(METADATA)}')
  if not 1 <= quality <= 100:
    raise ValueError(f'quality is {quality}; it must lie in 1 to 100')
  exif, dpi = (photo.exif, photo.dpi) if metadata == 'keep' else (None, None)
  check_can_hold(path, photo)
  try:
    pixels, icc, notes = _stored(photo, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished.replacing(path) as begun, begun.open('w+b') as stream:
      notes += kind.write(stream, pixels, icc=icc, exif=exif, dpi=dpi, quality=quality) or []
  except (ValueError, RuntimeError) as error:  # imagecodecs raises RuntimeErrors
    raise ValueError(f'cannot write {str(path)!r}: {error}') from error
  return tuple(notes)


def _kind(path: Path) -> known.Kind:
  kind = known.WRITABLE.get(path.suffix.lower())
  if kind is None:
    raise ValueError(f'cannot write {str(path)!r}: suffix {path.suffix!r} is not one of {", ".join(WRITABLE)}')
  return kind


def _stored(photo: Photo, kind: known.Kind) -> tuple[np.ndarray, bytes | None, list[str]]:
  """The (height, width, channels) array to store, the profile that goes with it, and notes."""
  pixels, alpha, icc, notes = np.asarray(photo.pixels), photo.alpha, photo.icc, []
  if pixels.dtype not in (np.uint8, np.uint16):
    raise ValueError(f'pixels are {pixels.dtype}, not uint8 or uint16; see to_uint8')
  if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
    raise ValueError(f'shape {pixels.shape} is not (height, width, 3)')
  if alpha is not None and (alpha.shape, alpha.dtype) != (pixels.shape[:2], pixels.dtype):
    raise ValueError(f'alpha of shape {alpha.shape} and {alpha.dtype} does not fit pixels of {pixels.dtype}')
  if pixels.dtype == np.uint16 and not kind.sixteen_bits:
    pixels, alpha = to_uint8(pixels), None if alpha is None else to_uint8(alpha)
    notes.append(f'written with 8 bits: {kind.name} has no more')
  if alpha is not None and not kind.alpha:
    top = np.uint32(np.iinfo(pixels.dtype).max)
    if alpha.min() < top:
      notes.append(f'laid on white: {kind.name} has no transparency')
      over = pixels * alpha[:, :, None].astype(np.uint32) + top * (top - alpha[:, :, None])
      pixels = ((over + top // 2) // top).astype(pixels.dtype)
    alpha = None
  if photo.grey:
    # A third is never half way between two levels: adding one before dividing rounds to the nearest.
    pixels = ((pixels.sum(axis=2, dtype=np.uint32, keepdims=True) + 1) // 3).astype(pixels.dtype)
    pixels = pixels if kind.grey else np.repeat(pixels, 3, axis=2)
  if pixels.shape[2] == 3 and icc is not None and icc[16:20] == b'GRAY':
    icc = None
    notes.append(f'grey colour profile dropped: written as RGB to {kind.name}')
  return (pixels if alpha is None else np.concatenate([pixels, alpha[:, :, None]], axis=2)), icc, notes


def write_image(path: str | Path, pixels: np.ndarray, *, quality: int = 95) -> None:
  """Writes bare pixels, as `write_photo`.

  Args:
    path: where to; the suffix is one of `WRITABLE`.
    pixels: (height, width, 3), or grey (height, width), uint8 or uint16.
    quality: as for `write_photo`.

  Raises:
    ValueError: as `write_photo`.
  """
  pixels = np.asarray(pixels)
  grey = pixels.ndim == 2
  write_photo(path, Photo(np.repeat(pixels[:, :, None], 3, axis=2) if grey else pixels, grey=grey), quality=quality)
