"""The options of `lh-restore`: what they are, what they may be, and how they are written.

Nothing is imported here but the standard library: --help and a mistyped option are answered at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import dataclasses
from pathlib import Path
from typing import Any

import lh_jax

METADATA = ('keep', 'strip')
DTYPES = ('auto', 'float32', 'bfloat16')
# How the files end that `lh_jax.convert` reads and nothing else does.
_PUBLISHED_ENDINGS = ('.pth', '.pt', '.npz', '.ckpt', '.bin')

_EXAMPLES = """examples:
  lh-restore photo.jpg -o restored.png
  lh-restore photographs/ -o photographs/restored/ --recursive
      Run it again to go on after an interruption: finished files are skipped.
  lh-restore photo.jpg -o restored.png --checkpoint runs/quickstart

exit codes: 0 all files restored, 1 some failed (each is named with the reason, the others are written),
2 usage error, 130 interrupted"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What to restore with, and how.

  Attributes:
    checkpoint: work directory of a finished run, its export folder, or a converted network on pixels (`on_pixels`),
      whose name becomes its path; None takes the bundled weights.
    alpha: fidelity in [0, 1]; None is `inference.DEFAULT_ALPHA`.
    tile: see `inference.Restorer.run`.
    max_memory: bytes that tiles, or a baseline as a whole, may take; None is what is free.
    dtype: of the activations.
    devices: that share the rows of an image.
    metadata: see `image_files.write_photo`.
    quality: likewise.
    recursive: also restore the images in sub-folders.
    overwrite: also restore files whose output exists.
    report: where to write what became of every file, as JSON; its name ends in .json.
  """

  checkpoint: str | None
  alpha: float | None = None
  tile: str | int = 'auto'
  max_memory: int | None = None
  dtype: str = 'auto'
  devices: int = 1
  metadata: str = 'keep'
  quality: int = 95
  recursive: bool = False
  overwrite: bool = False
  report: Path | None = None

  def __post_init__(self):
    if self.checkpoint is not None:
      object.__setattr__(self, 'checkpoint', find_checkpoint(self.checkpoint))
    if self.max_memory is not None and self.tile != 'auto':
      raise ValueError(f'max-memory chooses the tile, so it goes with tile auto only; got tile {self.tile} beside it')
    if self.on_pixels:
      given = {'alpha': self.alpha is not None, 'tile': self.tile not in ('auto', 'full'), 'devices': self.devices > 1}
      if wrong := [name for name, there in given.items() if there]:
        raise ValueError(
          f'{self.checkpoint} is a network on pixels, which restores a whole image on one device and in one way: it '
          f'takes no {" and no ".join(wrong)}'
        )

  @property
  def on_pixels(self) -> bool:
    """Whether the checkpoint is a converted network on pixels (`baselines`), a file rather than a folder."""
    if self.checkpoint is None or Path(self.checkpoint).is_dir():
      return False
    return self.checkpoint.lower().endswith('.safetensors')


def find_checkpoint(text: str) -> str:
  """Returns the path of a checkpoint: of a published network that was named, the file that it was converted to.

  Args:
    text: a path, also in a bucket, or a key of `published.FILES`.

  Raises:
    ValueError: the network is not converted yet or restores no images, or the path is of a file to be converted.
  """
  from lh_jax import published

  path = Path(text)
  if path.is_dir():
    return text
  if path.suffix.lower() in _PUBLISHED_ENDINGS:
    names = [name for name, file in published.FILES.items() if file.family == 'restorers' and file.name == path.name]
    raise ValueError(
      f'{text} is a file as it was published: convert it with `python -m lh_jax.convert {"".join(names) or "NAME"} '
      f'{text} OUT.safetensors`, and give that file'
    )
  if text not in published.FILES or path.exists():
    return text
  if published.FILES[text].family != 'restorers':
    raise ValueError(f'{text} is no network that restores images')
  from lh_jax import weight_files

  converted = weight_files.default_path(text)
  if not converted.is_file():
    raise ValueError(f'{text} is not converted yet: there is no {converted}. {published.how_to_get(text)}')
  return str(converted)


def parse_alpha(text: str) -> float | None:
  """Returns alpha, None for 'auto'.

  Raises:
    ValueError: it is neither 'auto' nor in [0, 1].
  """
  if text == 'auto':
    return None
  value = _number(float, text, 'a number in [0, 1], or auto')
  if not 0.0 <= value <= 1.0:
    raise ValueError(f'{text} is not in [0, 1]')
  return value


def parse_tile(text: str) -> str | int:
  """Returns 'auto', 'full' or a number of pixels.

  Raises:
    ValueError: it is none of them.
  """
  return text if text in ('auto', 'full') else _positive(text, 'auto, full or a number of pixels')


def parse_memory(text: str) -> int:
  """Returns bytes; as `memory.parse_size`."""
  from lh_jax import memory  # Of the commands, only one with this option needs it.

  return memory.parse_size(text)


def parse_devices(text: str) -> int:
  """Returns a number of devices.

  Raises:
    ValueError: it is not 1 or more.
  """
  return _positive(text, 'a number of devices')


def parse_quality(text: str) -> int:
  """Returns a quality.

  Raises:
    ValueError: it is not in 1 to 100.
  """
  value = _positive(text, 'a whole number from 1 to 100')
  if value > 100:
    raise ValueError(f'{text} is not in 1 to 100')
  return value


def parse_metadata(text: str) -> str:
  """Returns one of `METADATA`.

  Raises:
    ValueError: it is none of them.
  """
  return _choice(text, METADATA)


def parse_dtype(text: str) -> str:
  """Returns one of `DTYPES`.

  Raises:
    ValueError: it is none of them.
  """
  return _choice(text, DTYPES)


def _choice(text: str, allowed: tuple[str, ...]) -> str:
  if text not in allowed:
    raise ValueError(f'{text!r} is not one of {", ".join(allowed)}')
  return text


def _positive(text: str, allowed: str) -> int:
  value = _number(int, text, allowed)
  if value < 1:
    raise ValueError(f'{text} is less than 1; allowed is {allowed}')
  return value


def _number(kind: type, text: str, allowed: str) -> Any:
  try:
    return kind(text)
  except ValueError:
    raise ValueError(f'{text!r} is not {allowed}') from None


def _type(parse: Callable[[str], Any]) -> Callable[[str], Any]:
  """Makes argparse tell the reason of a ValueError."""

  def parsed(text: str) -> Any:
    try:
      return parse(text)
    except ValueError as error:
      raise argparse.ArgumentTypeError(str(error)) from error

  return parsed


def parser() -> argparse.ArgumentParser:
  """Returns the parser; besides `inputs` and `output` it yields the fields of `Options`."""
  found = argparse.ArgumentParser(
    allow_abbrev=False,
    prog='lh-restore',
    description='Restore photographs with a trained Latent Harmony model.',
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = found.add_argument
  add('inputs', nargs='+', type=Path, metavar='INPUT', help='an image, or a folder of images')
  add(
    '-o',
    '--output',
    required=True,
    type=Path,
    help='the image to write, or a folder; one inside an input folder is not read as input',
  )
  add(
    '--checkpoint',
    metavar='PATH',
    help='work directory of a finished run, or its export folder; or NAME or FILE.safetensors, a published network on '
    'pixels that python -m lh_jax.convert has converted, which takes no --alpha, --tile and --devices; default: the '
    'bundled weights',
  )
  add(
    '--alpha',
    type=_type(parse_alpha),
    metavar='0..1|auto',
    help='1: most faithful, 0: most perceptual; auto, the default, is 0.5',
  )
  add(
    '--tile',
    type=_type(parse_tile),
    default='auto',
    metavar='auto|full|PIXELS',
    help='compute at once: what is quickest and fits into memory (auto, the default), the whole image, or tiles that '
    'yield PIXELS on a side; the result is the same',
  )
  add(
    '--max-memory',
    type=_type(parse_memory),
    metavar='SIZE',
    help='that tiles may take, besides the photographs, such as 800M or 4G; default: what is free',
  )
  add(
    '--dtype',
    type=_type(parse_dtype),
    default='auto',
    metavar='|'.join(DTYPES),
    help='of the activations; auto, the default, is float32 on CPU, else bfloat16',
  )
  add(
    '--devices',
    type=_type(parse_devices),
    default=1,
    metavar='N',
    help='GPUs or TPU cores that share the rows of an image; default 1',
  )
  add(
    '--metadata',
    type=_type(parse_metadata),
    default='keep',
    metavar='|'.join(METADATA),
    help='EXIF data: keep, the default, or strip; the colour profile always stays',
  )
  add('--quality', type=_type(parse_quality), default=95, metavar='1..100', help='of JPEG and WebP; default 95')
  add('--recursive', action='store_true', help='also restore the images in sub-folders')
  add('--overwrite', action='store_true', help='restore files again that exist in the output')
  add('--report', type=Path, metavar='FILE.json', help='write what became of every file, as JSON')
  add('--version', action='version', version=f'lh_jax {lh_jax.__version__}')
  return found
