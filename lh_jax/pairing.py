"""Two folders of images -> pairs, for `lh-evaluate`: which restored image belongs to which reference.

Contract: the same relative path without suffix makes a pair; no other part of a name is taken off, sizes must agree,
and nothing is left out in silence. Only names and file headers are read.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lh_jax.data import image_files
from lh_jax.data import pairs as pairs_lib


@dataclasses.dataclass(frozen=True)
class Pair:
  """One image: its name, which is its path without suffix, and its two files."""

  name: str
  restored: Path
  reference: Path
  size: tuple[int, int]


class PairingError(ValueError):
  """The two folders do not fit together; the message names every file that is wrong."""


def pair_folders(restored: Path, reference: Path, *, allow_missing: bool) -> tuple[list[Pair], dict[str, list[str]]]:
  """Pairs the images of two folders.

  Args:
    restored: the results of a method.
    reference: the clean images.
    allow_missing: leave out what has no counterpart.

  Returns:
    The pairs in the order of their names; and 'missing', references without a result, and 'extra', results without a
    reference, which are both empty unless `allow_missing`.

  Raises:
    FileNotFoundError: a folder does not exist.
    PairingError: files without a counterpart, two with one name, different sizes, unreadable headers, or no pair.
  """
  ours, problems = pairs_lib.by_stem(restored)
  theirs, more = pairs_lib.by_stem(reference)
  problems += more
  unpaired = {'missing': sorted(theirs.keys() - ours.keys()), 'extra': sorted(ours.keys() - theirs.keys())}
  if not allow_missing:
    problems += [f'missing: the reference {name} has no restored image' for name in unpaired['missing']]
    problems += [f'extra: the restored image {name} has no reference' for name in unpaired['extra']]
  pairs = []
  for name in sorted(ours.keys() & theirs.keys()):
    try:
      sizes = [image_files.size(path) for path in (ours[name], theirs[name])]
    except ValueError as error:
      problems.append(str(error))
      continue
    problems += [
      f'{name}: {path.name} is misnamed, {text}; name it so'
      for path in (ours[name], theirs[name])
      if (text := image_files.renamed(path))
    ]
    if sizes[0] != sizes[1]:
      told = [f'{width}x{height}' for height, width in sizes]
      problems.append(f'{name}: sizes differ, restored {told[0]}, reference {told[1]} (nothing is resized)')
    pairs.append(Pair(name, ours[name], theirs[name], sizes[1]))
  if not pairs and not problems:
    problems.append(f'no image of {restored} has the name of one of {reference}')
  if problems:
    listed = '\n  '.join(problems)
    raise PairingError(f'{len(problems)} problem(s) with {restored} and {reference}:\n  {listed}')
  return pairs, unpaired
