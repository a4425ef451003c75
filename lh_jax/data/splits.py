"""The validation split: training images set aside by a hash of their names, the same everywhere; never test images.

Contract: whether an image is set aside depends on its own name alone (but for the last resort of `validation`), so that
a partial download, another file format or another order of listing moves no image from one split to the other.
"""

from __future__ import annotations

from collections.abc import Collection
import hashlib

SPLITS = ('train', 'val', 'train+val', 'test')
VALIDATION_PERCENT = 2


def published(split: str) -> str:
  """The published split that one of ours is taken from.

  Args:
    split: one of `SPLITS`; 'train' and 'val' share out the published training images, 'train+val' has all of them.

  Returns:
    'train' or 'test'.

  Raises:
    ValueError: if the split is unknown.
  """
  if split not in SPLITS:
    raise ValueError(f'unknown split {split!r} of a published data set; known: {", ".join(SPLITS)}')
  return 'test' if split == 'test' else 'train'


def _share(dataset: str, stem: str) -> float:
  """A number in [0, 1) made of the name."""
  digest = hashlib.sha256(f'{dataset}/{stem}'.encode()).digest()
  return int.from_bytes(digest[:8], 'big') / 2**64


def validation(dataset: str, stems: Collection[str]) -> frozenset[str]:
  """The training images that are set aside for validation.

  Args:
    dataset: name of the data set.
    stems: names of its training images without suffix, '/' between folders.

  Returns:
    Those whose hash lies in the lowest `VALIDATION_PERCENT`, or if none does, the one with the lowest.

  Raises:
    ValueError: if there are fewer than two images, of which none can be set aside.
  """
  if len(stems) < 2:
    raise ValueError(
      f'{dataset} has {len(stems)} training image(s), too few to set one aside for validation: use the split train+val'
    )
  chosen = frozenset(stem for stem in stems if _share(dataset, stem) < VALIDATION_PERCENT / 100)
  return chosen or frozenset([min(stems, key=lambda stem: _share(dataset, stem))])


def select(dataset: str, split: str, stems: Collection[str]) -> frozenset[str]:
  """The images of one split, out of those of the published split it is taken from.

  Args:
    dataset: name of the data set.
    split: one of `SPLITS`.
    stems: as for `validation`, of the split `published(split)`.

  Returns:
    The stems that belong to the split.

  Raises:
    ValueError: as `published` and `validation`.
  """
  published(split)
  if split in ('test', 'train+val'):
    return frozenset(stems)
  held = validation(dataset, stems)
  return held if split == 'val' else frozenset(stems) - held
