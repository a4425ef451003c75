"""Parameters in safetensors files: the one place that reads and writes them.

A file holds one tree of arrays (nested dicts with string keys). A leaf is stored under its keys joined by `/`, for
example `block_0/attn/qkv/kernel`, together with a flat str -> str metadata table. safetensors is a header of JSON and
raw little-endian bytes: reading a file never executes anything. The weights of the foundation models (Eq. 4) are
fetched by the user, converted once by `python -m lh_jax.convert`, and read here.
"""

from __future__ import annotations

from collections.abc import Mapping
import hashlib
import os
import pathlib
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from lh_jax import published

Tree = dict[str, Any]
PathLike = str | os.PathLike[str]


def save(path: PathLike, tree: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
  """Writes a tree of arrays to a safetensors file, atomically.

  The file is written beside its destination and renamed, so that `path` never holds half a file. Parent folders are
  made.

  Args:
    path: destination.
    tree: nested dicts with string keys (without `/`) and array leaves.
    metadata: str -> str table kept in the file's header.

  Raises:
    ValueError: a key is not a string or holds `/`, a leaf is not an array of numbers, or the metadata is not
      str -> str.
    OSError: the disk is full, or the folder cannot be written.
  """
  path = pathlib.Path(path)
  metadata = dict(metadata or {})
  wrong = [key for key, value in metadata.items() if not (isinstance(key, str) and isinstance(value, str))]
  if wrong:
    raise ValueError(f'{path}: metadata must map strings to strings, but these entries do not: {wrong}.')
  tensors = {}
  for name, leaf in flatten(tree).items():
    # order='C' keeps 0-d arrays 0-d (np.ascontiguousarray does not); the writer needs contiguous memory.
    array = np.asarray(leaf, order='C')
    if array.dtype.hasobject or array.dtype.kind in 'USMm':
      raise ValueError(f'{path}: {name!r} is a {type(leaf).__name__}, but only arrays of numbers can be stored.')
    tensors[name] = array
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    # safetensors makes files that only their owner can read; give them the permissions of any new file.
    temporary.touch()
    mode = temporary.stat().st_mode
    try:
      safetensors.numpy.save_file(tensors, temporary, metadata=metadata)
    except safetensors.SafetensorError as error:
      raise OSError(f'{path}: could not be written: {error}') from error
    temporary.chmod(mode)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def load(path: PathLike, like: Mapping[str, Any] | None = None) -> tuple[Tree, dict[str, str]]:
  """Reads a safetensors file into a tree of numpy arrays.

  Args:
    path: file to read.
    like: tree of arrays or `jax.ShapeDtypeStruct`s with the expected structure. When given, every missing, extra and
      mis-shaped tensor is reported in one error, and floating-point tensors are converted to the expected dtype.

  Returns:
    (tree, metadata): nested dicts of numpy arrays, and the file's str -> str table.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is not a whole safetensors file, or does not match `like`.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such weight file.')
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      metadata = dict(file.metadata() or {})
      tensors = {name: file.get_tensor(name) for name in file.keys()}
  except safetensors.SafetensorError as error:
    raise ValueError(
      f'{path}: not a whole safetensors file ({error}). It may be truncated or of another format; '
      'fetch or convert it again.'
    ) from error
  tree = unflatten(tensors)
  return (tree if like is None else fitted(path, tree, like)), metadata


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
  """Flattens nested dicts into one dict with keys joined by `/`, in the tree's order.

  Args:
    tree: nested dicts with string keys.

  Returns:
    {'a/b/c': leaf}.

  Raises:
    ValueError: a key is not a string, is empty or holds `/`.
  """
  flat = {}
  for key, value in tree.items():
    if not isinstance(key, str) or not key or '/' in key:
      raise ValueError(f'a tree of weights needs non-empty string keys without "/", got {key!r}.')
    if isinstance(value, Mapping):
      flat.update({f'{key}/{rest}': leaf for rest, leaf in flatten(value).items()})
    else:
      flat[key] = value
  return flat


def unflatten(flat: Mapping[str, Any]) -> Tree:
  """Inverse of `flatten`.

  Args:
    flat: {'a/b/c': leaf}.

  Returns:
    Nested dicts.

  Raises:
    ValueError: one name is both a leaf and a branch (`a` and `a/b`).
  """
  tree: Tree = {}
  for name, leaf in flat.items():
    *branch, last = name.split('/')
    node = tree
    for key in branch:
      node = node.setdefault(key, {})
      if not isinstance(node, dict):
        raise ValueError(f'{name!r} lies under {key!r}, which is a tensor itself.')
    if last in node:
      raise ValueError(f'{name!r} is a tensor and the parent of other tensors.')
    node[last] = leaf
  return tree


def digest(tree: Mapping[str, Any]) -> str:
  """Returns the SHA-256 of a tree of arrays, names, shapes and dtypes included.

  Args:
    tree: nested dicts of arrays.
  """
  found = hashlib.sha256()
  for name, leaf in sorted(flatten(tree).items()):
    array = np.asarray(leaf, order='C')
    found.update(f'{name} {array.dtype} {array.shape}\n'.encode())
    found.update(array.tobytes())
  return found.hexdigest()


def default_path(name: str) -> pathlib.Path:
  """Where the converted weights of a named network are looked for.

  Args:
    name: network name, e.g. 'dinov2_vits14'.

  Returns:
    `$LH_JAX_CACHE/<name>.safetensors`; the folder is `~/.cache/lh_jax` when LH_JAX_CACHE is unset.
  """
  folder = os.environ.get('LH_JAX_CACHE') or pathlib.Path.home() / '.cache' / 'lh_jax'
  return pathlib.Path(folder) / f'{name}.safetensors'


def load_foundation(name: str, path: PathLike | None, like: Mapping[str, Any]) -> Tree:
  """Reads the converted weights of a frozen foundation model.

  Args:
    name: foundation model name, e.g. 'dinov2_vits14' or 'vgg16'.
    path: weight file; None or '' means `default_path(name)`.
    like: abstract parameters of the model (`FoundationModel.abstract_params()`).

  Returns:
    Parameters as nested dicts of numpy arrays, of the structure, shapes and dtypes of `like`.

  Raises:
    FileNotFoundError: the file is missing; the message says how to make it.
    ValueError: the file is broken, was converted for another network, or does not match `like`.
  """
  path = pathlib.Path(path) if path else default_path(name)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: the weights of foundation model {name!r} are not there. {how_to_get(name, path)}')
  params, metadata = load(path)
  found = metadata.get('name', name)
  if found != name:
    raise ValueError(
      f'{path}: holds the weights of {found!r}, but {name!r} was asked for. Set --config.foundation.name'
      f'={found} or point --config.foundation.weights at the weights of {name!r}.'
    )
  return fitted(path, params, like)


def how_to_get(name: str, path: PathLike | None = None) -> str:
  """Tells a user how to obtain a foundation model's weights.

  Args:
    name: foundation model name.
    path: where the converted file should lie; None means `default_path(name)`.

  Returns:
    Sentences with the address of the official file, the command that converts it, and the offline default.
  """
  if name not in published.FILES:
    return (
      f'There is no converter for {name!r}: give its safetensors file with --config.foundation.weights, or choose '
      'the offline default with --config.foundation.name=vgg16.'
    )
  out = '' if path is None or pathlib.Path(path) == default_path(name) else str(path)
  how = published.how_to_get(name, out)
  if published.FILES[name].package:
    return f'{how} Leave --config.foundation.weights empty then.'
  return f'{how} Or choose the offline default with --config.foundation.name=vgg16.'


def fitted(path: PathLike, tree: Mapping[str, Any], like: Mapping[str, Any]) -> Tree:
  """Checks what a file held against what a model expects.

  Args:
    path: the file, for the message.
    tree: nested dicts of numpy arrays.
    like: tree of arrays or `jax.ShapeDtypeStruct`s with the expected structure.

  Returns:
    The tree in the order and dtypes of `like`.

  Raises:
    ValueError: names every missing, extra and mis-shaped tensor, and every one of another kind of dtype.
  """
  tensors, expected = flatten(tree), flatten(like)
  problems = [f'missing: {name} {tuple(expected[name].shape)}' for name in expected if name not in tensors]
  problems += [f'extra: {name} {tensors[name].shape}' for name in tensors if name not in expected]
  for name, leaf in expected.items():
    if name not in tensors:
      continue
    found = tensors[name]
    if found.shape != tuple(leaf.shape):
      problems.append(f'shape: {name} is {found.shape}, expected {tuple(leaf.shape)}')
    elif found.dtype != leaf.dtype and not (_is_float(found.dtype) and _is_float(leaf.dtype)):
      problems.append(f'dtype: {name} is {found.dtype}, expected {leaf.dtype}')
  if problems:
    raise ValueError(
      f'{path}: {len(problems)} tensors do not match the model. It was written for another model or '
      'version: check the name of the model, or convert the file again.\n  ' + '\n  '.join(problems)
    )
  return unflatten({name: tensors[name].astype(leaf.dtype, copy=False) for name, leaf in expected.items()})


def _is_float(dtype: Any) -> bool:
  # bfloat16 is no numpy floating type; its kind is 'V'.
  return np.dtype(dtype).kind == 'f' or np.dtype(dtype).name == 'bfloat16'
