"""Converts published weights of foundation models (Eq. 4), restorers and metrics to the files that lh_jax reads.

`python -m lh_jax.convert NAME [SOURCE] [OUT]` reads a published file without torch and without executing the pickles
that such files are made of, renames and transposes its tensors, and writes safetensors with the name, the source, its
sha256, its licence and the version of lh_jax in its metadata. `published` has what there is to convert, `sources` how.
The rest of the package does not import this one.
"""

from __future__ import annotations

import os
import pathlib

import lh_jax
from lh_jax import published
from lh_jax import weight_files
from lh_jax.convert import fetch
from lh_jax.convert import sources

NAMES = tuple(published.FILES)
# Their weights are inside a package.
PACKAGED = tuple(name for name, file in published.FILES.items() if file.package)


def convert_file(
  name: str,
  source: str | os.PathLike[str] | None = None,
  out: str | os.PathLike[str] | None = None,
  *,
  overwrite: bool = False,
  address: str = '',
) -> tuple[pathlib.Path, bool]:
  """Converts one published weight file.

  Args:
    name: one of NAMES.
    source: published file; None, for the names in PACKAGED, takes the one inside the installed package.
    out: file to write; None means `weight_files.default_path(name)`.
    overwrite: replace a file at `out` that was made from something else.
    address: where the source was downloaded from, for the metadata; empty keeps the source's file name.

  Returns:
    (path of the converted file, whether it was written): False when `out` already holds this very conversion.

  Raises:
    FileNotFoundError: the source is missing.
    FileExistsError: `out` holds something else.
    ValueError: unknown name, `out` is the source, or the source is not readable or of another model.
  """
  if name not in NAMES:
    raise ValueError(f'no converter for {name!r}; NAME must be one of {", ".join(NAMES)}.')
  source = _source(name, source)
  out = pathlib.Path(out) if out else weight_files.default_path(name)
  if out.exists() and out.samefile(source):
    raise ValueError(f'{out}: OUT is SOURCE itself, which would be lost. Choose another OUT.')
  digest = fetch.checksum(source, 'sha256')
  stated_kind, _, stated = published.FILES[name].digest.partition(':')
  if stated and source.name == published.FILES[name].name:
    if not (found := fetch.checksum(source, stated_kind)).startswith(stated):
      raise ValueError(f'{source}: its {stated_kind} is {found}, but its publisher states {stated}: fetch it again.')
  family = sources.FAMILIES[published.FILES[name].family]
  like = family.abstract(name)
  if out.exists() and not overwrite:
    if _is_conversion(out, name, digest, like):
      return out, False
    raise FileExistsError(f'{out}: exists and was not made from {source}. Choose another OUT, or pass --overwrite.')
  try:
    params = family.convert(name, source, like)
  except ValueError as error:
    aside = (
      f' It was set aside as {fetch.set_aside(source)}; run the command again to download it anew.' if address else ''
    )
    raise ValueError(f'{source} as {name}: {error}{aside}') from error
  weight_files.save(
    out,
    params,
    {
      'name': name,
      'source': address or source.name,
      'source_sha256': digest,
      'licence': published.FILES[name].licence,
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
  return published.how_to_get(name)


def _source(name: str, source: str | os.PathLike[str] | None) -> pathlib.Path:
  """The source's path, checked to exist."""
  if source is None and (packaged := sources.FAMILIES[published.FILES[name].family].packaged):
    return packaged(name)
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
