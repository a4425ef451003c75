"""Image files: the one door to Pillow.

Contract: pixels are (height, width, 3) RGB arrays, uint8 (0..255) or, for 16-bit grey files, uint16 (0..65535),
as a viewer shows them: the EXIF orientation is applied, grey and palette files are spread over three channels,
CMYK is converted, alpha is dropped. Values are the encoded (display) values; colour profiles are not applied.
Colour files with 16 bits a channel come back with the upper 8 of them, which is all that Pillow decodes.
Every error names the file and the reason.
"""

from __future__ import annotations

import os
from pathlib import Path
import struct
import zlib

import numpy as np
from PIL import Image

READABLE = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')
WRITABLE = {'.png': 'PNG', '.jpg': 'JPEG', '.jpeg': 'JPEG', '.webp': 'WEBP'}

_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {  # its values, other than 1 for upright
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
_DIRECT_MODES = ('RGB', 'L', '1', 'LA', 'CMYK', 'YCbCr', 'RGBA', 'RGBX', 'RGBa', 'La')
# What Pillow's decoders raise on damaged files, by experience: each format has its own habit.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


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


def _open(path: Path) -> Image.Image:
  """Opens the file lazily (header only); the caller closes it."""
  if not path.is_file():
    raise FileNotFoundError(f'image file {str(path)!r} does not exist')
  try:
    return Image.open(path)
  except _DECODE_ERRORS as error:
    raise ValueError(f'cannot read image file {str(path)!r}: {error}') from error


def _orientation(image: Image.Image) -> int:
  """The EXIF orientation still to be applied; 1 where there is none or the EXIF data are damaged, as in viewers."""
  if image.format == 'TIFF':
    return 1  # Pillow has taken it into account, in the size as in the pixels
  try:
    return image.getexif().get(_ORIENTATION, 1)
  except _DECODE_ERRORS:
    return 1


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
  path = Path(path)
  with _open(path) as image:
    swapped = _orientation(image) in (5, 6, 7, 8)
    width, height = image.size
  return (width, height) if swapped else (height, width)


def read_rgb(path: str | Path) -> np.ndarray:
  """Reads one image as RGB.

  Args:
    path: the image file.

  Returns:
    (height, width, 3), uint8, or uint16 for 16-bit grey files; owned by the caller.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is not an image, is damaged or truncated, or has a pixel type that is not 8 or 16 bits.
  """
  path = Path(path)
  with _open(path) as image:
    try:
      image.load()
      turn = _TURNS.get(_orientation(image))
      if turn is not None:
        image = image.transpose(turn)
      if image.mode.startswith('I;16'):
        return np.repeat(np.asarray(image).astype(np.uint16)[:, :, None], 3, axis=2)
      if image.mode in ('P', 'PA'):
        image = image.convert('RGBA')  # a palette may hold transparency, which Pillow will not drop in one step
      if image.mode not in _DIRECT_MODES:
        raise ValueError(f'pixel type {image.mode!r} is not supported; save it with 8 or 16 bits a channel')
      return np.array(image.convert('RGB'))
    except _DECODE_ERRORS as error:
      raise ValueError(f'cannot decode image file {str(path)!r}: {error}') from error


def to_uint8(image: np.ndarray) -> np.ndarray:
  """Converts float pixels in [0, 1] to uint8: clips, then rounds to the nearest level (half up).

  Args:
    image: float array of any shape.

  Returns:
    uint8 array of the same shape.

  Raises:
    ValueError: if a value is NaN or infinite.
  """
  image = np.asarray(image, np.float32)
  if not np.isfinite(image).all():
    raise ValueError(
      f'image of shape {image.shape} holds values that are not finite: the model that made it has '
      'diverged or overflowed'
    )
  return np.floor(np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def write_image(path: str | Path, pixels: np.ndarray, *, quality: int = 95) -> None:
  """Writes one 8-bit image; the format follows the suffix.

  The file appears whole or not at all: it is written beside its final place and renamed. Folders are made.

  Args:
    path: where to; the suffix is one of `WRITABLE`.
    pixels: (height, width, 3) or grey (height, width), uint8.
    quality: 1..100 for JPEG (4:4:4 from 90 up) and WebP; PNG is lossless and has none.

  Raises:
    ValueError: if the suffix, the pixel type or the shape is not one that can be written.
  """
  path = Path(path)
  kind = WRITABLE.get(path.suffix.lower())
  if kind is None:
    raise ValueError(f'cannot write {str(path)!r}: suffix {path.suffix!r} is not one of {", ".join(WRITABLE)}')
  pixels = np.asarray(pixels)
  if pixels.dtype != np.uint8:
    raise ValueError(f'cannot write {str(path)!r}: pixels are {pixels.dtype}, not uint8; see to_uint8')
  if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)) or 0 in pixels.shape:
    raise ValueError(
      f'cannot write {str(path)!r}: shape {pixels.shape} is neither (height, width, 3) nor (height, width)'
    )
  options = {}
  if kind != 'PNG':
    options['quality'] = quality
  if kind == 'JPEG' and quality >= 90:
    options['subsampling'] = 0
  path.parent.mkdir(parents=True, exist_ok=True)
  # The leading dot hides an unfinished file from list_images.
  unfinished = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    Image.fromarray(pixels).save(unfinished, format=kind, **options)
    os.replace(unfinished, path)
  finally:
    unfinished.unlink(missing_ok=True)
