"""Reads pickles of plain arrays without executing what they say.

A pickle is a program: unpickling a hostile one runs any code. Here it may refer only to the names in a table, and the
table maps them to small stand-ins that record what was asked for; every other reference ends the reading with an error
that names it. The stand-ins have no attributes that a pickle could set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import io
import os
import pathlib
import pickle
from typing import Any

import numpy as np

_DTYPES = frozenset({'f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'b1'})


class RestrictedUnpickler(pickle.Unpickler):
  """Unpickler that resolves only the globals of a table.

  Attributes:
    allowed: (module, name) -> stand-in used in its place. Stand-ins must be immutable and harmless to call.
    load_storage: called with a persistent id; None refuses them.
  """

  def __init__(
    self,
    file: io.BufferedIOBase,
    *,
    allowed: Mapping[tuple[str, str], Any],
    load_storage: Callable[[Any], Any] | None = None,
  ):
    super().__init__(file)
    self.allowed = allowed
    self.load_storage = load_storage

  def find_class(self, module: str, name: str) -> Any:
    """Returns the stand-in of a global, or refuses it."""
    if (module, name) not in self.allowed:
      raise pickle.UnpicklingError(
        f'it refers to {module}.{name}, which plain weights have no use for; refused without executing it'
      )
    return self.allowed[module, name]

  def persistent_load(self, pid: Any) -> Any:
    """Returns the storage that a persistent id stands for, or refuses it."""
    if self.load_storage is None:
      raise pickle.UnpicklingError('it refers to data outside the pickle')
    return self.load_storage(pid)


def read_numpy_pickle(path: str | os.PathLike[str]) -> Any:
  """Reads a pickle of nested dicts of numpy arrays.

  Args:
    path: file to read.

  Returns:
    Nested dicts of read-only numpy arrays.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is no such pickle, is truncated, or refers to anything but numpy arrays.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file.')
  with path.open('rb') as file:
    try:
      tree = RestrictedUnpickler(file, allowed=_NUMPY_GLOBALS).load()
    # A damaged pickle can raise nearly anything.
    except Exception as error:
      raise ValueError(f'{path}: not a readable pickle of numpy arrays: {error}.') from error
  if not isinstance(tree, dict):
    raise ValueError(f'{path}: expected nested dicts of numpy arrays, found a {type(tree).__name__}.')
  try:
    return _arrays(tree, path)
  except RecursionError:
    raise ValueError(f'{path}: its dicts are nested without end.') from None


class _Array:
  """Stands for a numpy array; keeps the state that the pickle gives it."""

  __slots__ = ('state',)

  def __setstate__(self, state: Any):
    self.state = state


class _Dtype:
  """Stands for a numpy dtype; keeps its code and byte order."""

  __slots__ = ('code', 'order')

  def __init__(self, code: Any):
    self.code = code
    self.order = '|'

  def __setstate__(self, state: Any):
    self.order = state[1]


class _MakeArray:
  __slots__ = ()

  def __call__(self, *unused: Any) -> _Array:
    return _Array()


class _MakeDtype:
  __slots__ = ()

  def __call__(self, code: Any, *unused: Any) -> _Dtype:
    return _Dtype(code)


_NUMPY_GLOBALS = {
  ('numpy.core.multiarray', '_reconstruct'): _MakeArray(),
  ('numpy._core.multiarray', '_reconstruct'): _MakeArray(),
  ('numpy', 'dtype'): _MakeDtype(),
  ('numpy', 'ndarray'): 'numpy.ndarray',
}


def _arrays(tree: Any, path: pathlib.Path) -> Any:
  """Replaces the stand-ins in nested dicts by arrays."""
  if isinstance(tree, dict):
    return {key: _arrays(value, path) for key, value in tree.items()}
  if not isinstance(tree, _Array):
    raise ValueError(f'{path}: expected nested dicts of numpy arrays, found a {type(tree).__name__}.')
  try:
    _, shape, dtype, fortran, raw = tree.state
    if dtype.code not in _DTYPES or dtype.order not in ('<', '>', '|', '='):
      raise ValueError(f'dtype {dtype.order}{dtype.code}')
    flat = np.frombuffer(raw, np.dtype(dtype.order + dtype.code))
    return flat.reshape(shape, order='F' if fortran else 'C')
  except (AttributeError, TypeError, ValueError) as error:
    raise ValueError(f'{path}: holds an array that is not a plain one of numbers ({error}).') from error
