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
# How published files end, and ours never do.
_PUBLISHED_ENDINGS = ('.pth', '.pt', '.npz', '.ckpt', '.bin')


def check_places(name: str, source: str | os.PathLike[str] | None, out: str | os.PathLike[str] | None) -> None:
  """Checks what is known of SOURCE and OUT before any file is read or downloaded.

  Args:
    name: one of NAMES.
    source: as for `convert_file`.
    out: likewise.

  Raises:
    ValueError: one of them is empty or a folder, OUT is named like a published file, or OUT was given as SOURCE.
  """
  for role, path in (('SOURCE', source), ('OUT', out)):
    if path is None:
      continue
    if not os.fspath(path):
      raise ValueError(f'{role} is empty; name a file, or leave it out')
    if pathlib.Path(path).is_dir():
      raise ValueError(f'{role} {path} is a folder; name a file')
  if out is not None and pathlib.Path(out).suffix.lower() in _PUBLISHED_ENDINGS:
    raise ValueError(f'OUT {out} is named like a published file, but what is written is safetensors')
  if name in PACKAGED and source is not None and out is None:
    if pathlib.Path(source).suffix.lower() == '.safetensors' or not pathlib.Path(source).is_file():
      raise ValueError(
        f'a single path is SOURCE, and {source} holds no published weights of {name}; OUT comes after a SOURCE, or '
        f'leave both out to write {weight_files.default_path(name)} from the package {published.FILES[name].package}'
      )


def is_fetched_already(name: str, out: str | os.PathLike[str] | None, *, overwrite: bool = False) -> bool:
  """Looks at OUT before the published file is downloaded.

  Args:
    name: one of NAMES.
    out: as for `convert_file`.
    overwrite: likewise.

  Returns:
    Whether it holds the whole conversion of the file at the official address, so that there is nothing to download.

  Raises:
    FileExistsError: `out` holds something else.
  """
  file, out = published.FILES[name], pathlib.Path(out) if out else weight_files.default_path(name)
  # What lies there already is compared by its checksum later.
  if overwrite or not file.addresses or not out.exists() or fetch.destination(name).exists():
    return False
  if _is_conversion(out, sources.FAMILIES[file.family].abstract(name), name=name, source=file.addresses[0]):
    return True
  raise FileExistsError(_exists(out, file.addresses[0]))


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
    ValueError: unknown name, `out` is the source or no place for the result, or the source is not readable or of
      another model.
  """
  if name not in NAMES:
    raise ValueError(f'no converter for {name!r}; NAME must be one of {", ".join(NAMES)}.')
  check_places(name, source, out)
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
    if _is_conversion(out, like, name=name, source_sha256=digest):
      return out, False
    raise FileExistsError(_exists(out, source))
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


def _exists(out: pathlib.Path, source: str | os.PathLike[str]) -> str:
  return f'{out}: exists and was not made from {source}. Choose another OUT, or pass --overwrite.'


def _is_conversion(out: pathlib.Path, like: weight_files.Tree, **expected: str) -> bool:
  """Whether `out` holds a whole conversion whose metadata has these entries."""
  try:
    metadata = weight_files.load(out, like)[1]
  except (OSError, ValueError):
    return False
  return all(metadata.get(key) == value for key, value in expected.items())
