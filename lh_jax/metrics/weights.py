"""Weight files of the networks that are metrics: where they come from, and one error for each way they can be wrong.

Contract: a missing or foreign file is an error that says how to make the right one. No metric falls back to other
weights, because its number would look like the published one.
"""

from __future__ import annotations

from collections.abc import Mapping
import pathlib
from typing import Any

from lh_jax import published
from lh_jax import weight_files

NAMES = ('lpips_alex', 'lpips_vgg', 'inception_fid')


def how_to_get(name: str) -> str:
  """Tells a user how to obtain the weights of a metric.

  Args:
    name: one of NAMES.

  Returns:
    Sentences with the command that writes them.
  """
  other = ' FID has no other weights.' if name == 'inception_fid' else ''
  return published.how_to_get(name) + other


def load(name: str, path: weight_files.PathLike | None, like: Mapping[str, Any]) -> weight_files.Tree:
  """Reads converted weights.

  Args:
    name: one of NAMES.
    path: the file; None means `weight_files.default_path(name)`.
    like: abstract parameters.

  Returns:
    Parameters as nested dicts of numpy arrays, of the structure, shapes and dtypes of `like`.

  Raises:
    FileNotFoundError: the file is missing; the message says how to make it.
    ValueError: the file is broken, was converted for another network, or does not match `like`.
  """
  path = pathlib.Path(path) if path else weight_files.default_path(name)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: the weights of the metric {name!r} are not there. {how_to_get(name)}')
  found = weight_files.load(path)[1].get('name', name)
  if found != name:
    raise ValueError(f'{path}: holds the weights of {found!r}, but the metric {name!r} was asked for.')
  return weight_files.load(path, like)[0]
