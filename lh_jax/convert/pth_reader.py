"""Reads the state dict of a PyTorch `.pth` file, without torch and without executing the pickle inside.

The zip format of torch >= 1.6: `<folder>/data.pkl` is a pickle of the state dict in which every tensor refers to a
storage, `<folder>/data/<key>`, of raw numbers. The pickle is read by the restricted reader of `pickle_reader`.

A TorchScript archive, as CLIP is published, is the same with modules, objects of classes that the archive defines, in
place of dicts. Of a module only the tensors are taken; its code is not looked at.

The older format, in which some networks are still published, is a row of pickles: a magic number, a version, a table
about the machine, the state dict, the storages' keys; then the numbers of each storage, after their count.
"""

from __future__ import annotations

import collections
import io
import math
import os
import pathlib
from typing import Any, NamedTuple
import zipfile

import numpy as np

from lh_jax.convert import pickle_reader

# numpy has no bfloat16: its bits are read as uint16 and widened.
_STORAGES = {
  'FloatStorage': 'float32',
  'DoubleStorage': 'float64',
  'HalfStorage': 'float16',
  'BFloat16Storage': 'bfloat16',
  'LongStorage': 'int64',
  'IntStorage': 'int32',
  'ShortStorage': 'int16',
  'CharStorage': 'int8',
  'ByteStorage': 'uint8',
  'BoolStorage': 'bool',
}
_ELEMENT_BYTES = {dtype: 2 if dtype == 'bfloat16' else np.dtype(dtype).itemsize for dtype in _STORAGES.values()}

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
# How that number begins a file: a pickle of protocol 2 that pushes ten bytes.
_LEGACY_START = b'\x80\x02\x8a\x0a'


def read_pth(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Reads a state dict.

  Args:
    path: `.pth` file written by `torch.save` of a state dict, in the zip format or in that of torch < 1.6, or a
      TorchScript archive.

  Returns:
    The pickled dict in the file's order, tensors as numpy arrays (bfloat16 widened to float32). What training adds,
    dicts of tensors and plain values, comes as it is; `tensor_files.read` sorts it out.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is of another format, is damaged, holds no dict, or its pickle refers to anything that a
      state dict does not need (nothing of it is executed).
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file.')
  if not is_pth(path):
    raise ValueError(
      f'{path}: not a whole PyTorch zip file, nor in the format of torch < 1.6. It may be truncated: fetch it again.'
    )
  try:
    if zipfile.is_zipfile(path):
      with zipfile.ZipFile(path) as archive:
        state = _read_archive(archive)
    else:
      state = _read_legacy(path.read_bytes())
  # A damaged archive or pickle can raise nearly anything.
  except Exception as error:
    raise ValueError(f'{path}: not a readable PyTorch state dict: {error}.') from error
  if not isinstance(state, dict):
    raise ValueError(f'{path}: expected a state dict, found a {type(state).__name__}.')
  return state


def is_pth(path: str | os.PathLike[str]) -> bool:
  """Whether a file begins like one of the two formats.

  Args:
    path: an existing file.

  Returns:
    True or False.
  """
  with open(path, 'rb') as file:
    return file.read(len(_LEGACY_START)) == _LEGACY_START or zipfile.is_zipfile(path)


def _read_archive(archive: zipfile.ZipFile) -> Any:
  """Unpickles `data.pkl`; tensors become numpy arrays."""
  names = archive.namelist()
  pickles = [name for name in names if name == 'data.pkl' or name.endswith('/data.pkl')]
  if len(pickles) != 1:
    raise ValueError(f'it holds {len(pickles)} entries named data.pkl instead of one')
  folder = pickles[0].removesuffix('data.pkl')
  if folder + 'byteorder' in names and archive.read(folder + 'byteorder') != b'little':
    raise ValueError('its numbers are big-endian')
  storages: dict[str, np.ndarray] = {}

  def load_storage(pid: Any) -> np.ndarray:
    kind, dtype, key, _, count = pid
    if kind != 'storage' or dtype not in _STORAGES.values():
      raise ValueError(f'unknown kind of storage {kind!r} of {dtype!r}')
    if key not in storages:
      storages[key] = _numbers(archive.read(f'{folder}data/{key}'), dtype)
    if storages[key].size != count:
      raise ValueError(f'storage {key} holds {storages[key].size} numbers instead of {count}')
    return storages[key]

  with archive.open(pickles[0]) as file:
    state = _Unpickler(file, allowed=_GLOBALS, load_storage=load_storage).load()
  return _plain(state.tensors() if isinstance(state, _Module) else state, {})


class _Unpickler(pickle_reader.RestrictedUnpickler):
  """Lets every class that a TorchScript archive defines itself stand for a module."""

  def find_class(self, module: str, name: str) -> Any:
    return _Module if module.split('.')[0] == '__torch__' else super().find_class(module, name)


class _Module:
  """Stands for a TorchScript module; keeps the attributes that the pickle gives it."""

  __slots__ = ('attributes',)

  def __setstate__(self, state: Any):
    self.attributes = state

  def tensors(self) -> dict[str, np.ndarray]:
    """Its tensors and those of the modules inside, named as in a state dict."""
    found = {}
    for name, value in self.attributes.items():
      if isinstance(value, _Module):
        found.update({f'{name}.{rest}': array for rest, array in value.tensors().items()})
      elif isinstance(value, np.ndarray):
        found[name] = value
    return found


class _Ignored:
  """Stands for what TorchScript makes lists of numbers with, which are no weights."""

  __slots__ = ()

  def __call__(self, *unused: Any) -> None:
    return None


class _Deferred(NamedTuple):
  """A tensor whose numbers come later in the file."""

  storage: str
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class _DeferTensor:
  """Stands for torch's tensor constructor in the older format."""

  __slots__ = ()

  def __call__(self, storage: str, offset: int, shape: Any, strides: Any, *unused: Any) -> _Deferred:
    return _Deferred(storage, offset, shape, strides)


def _read_legacy(raw: bytes) -> Any:
  """Unpickles a file of torch < 1.6; tensors become numpy arrays."""
  file = io.BytesIO(raw)
  kinds: dict[str, tuple[str, int]] = {}

  def note_storage(pid: Any) -> str:
    kind, dtype, key, _, count, *view = pid
    if kind != 'storage' or dtype not in _STORAGES.values() or any(part is not None for part in view):
      raise ValueError(f'unknown kind of storage {kind!r} of {dtype!r}')
    kinds[key] = (dtype, count)
    return key

  def load(load_storage: Any = None) -> Any:
    allowed = _GLOBALS | {('torch._utils', '_rebuild_tensor_v2'): _DeferTensor()}
    return pickle_reader.RestrictedUnpickler(file, allowed=allowed, load_storage=load_storage).load()

  if (load(), load()) != (_LEGACY_MAGIC, _LEGACY_VERSION):
    raise ValueError('its magic number or version is unknown')
  if not load().get('little_endian'):
    raise ValueError('its numbers are big-endian')
  state = load(note_storage)
  storages = {}
  for key in load():
    dtype, count = kinds[key]
    size = count * _ELEMENT_BYTES[dtype]
    if int.from_bytes(file.read(8), 'little', signed=True) != count or len(numbers := file.read(size)) != size:
      raise ValueError(f'storage {key} does not hold {count} numbers')
    storages[key] = _numbers(numbers, dtype)
  return _plain(state, storages)


def _plain(state: Any, storages: dict[str, np.ndarray]) -> Any:
  """Copies nested dicts into plain ones and gives deferred tensors their numbers.

  What a pickle makes of an OrderedDict can have any attribute, `items` and `get` included; dict's own are not asked of
  it. A dict that stands in many places, or in itself, is copied once.
  """
  copies: dict[int, dict[Any, Any]] = {}

  def copied(value: Any) -> Any:
    if isinstance(value, _Deferred):
      return _RebuildTensor()(storages[value.storage], *value[1:])
    if not isinstance(value, dict):
      return value
    if id(value) not in copies:
      copies[id(value)] = {}
      copies[id(value)].update({name: copied(inner) for name, inner in dict.items(value)})
    return copies[id(value)]

  return copied(state)


def _numbers(raw: bytes, dtype: str) -> np.ndarray:
  if dtype == 'bfloat16':
    return (np.frombuffer(raw, '<u2').astype(np.uint32) << 16).view(np.float32)
  return np.frombuffer(raw, np.dtype(dtype).newbyteorder('<'))


class _RebuildTensor:
  """Stands for torch's tensor constructor: a strided view of a storage."""

  __slots__ = ()

  def __call__(
    self, storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *unused: Any
  ) -> np.ndarray:
    values = [offset, *shape, *strides]
    if len(shape) != len(strides) or not all(isinstance(value, int) and value >= 0 for value in values):
      raise ValueError(f'a tensor has offset {offset}, shape {shape} and strides {strides}')
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides))
    if 0 not in shape and last >= storage.size:
      raise ValueError(f'a tensor of shape {shape} reaches beyond its storage of {storage.size} numbers')
    if math.prod(shape) > storage.size:
      raise ValueError(f'a tensor of shape {shape} repeats the {storage.size} numbers of its storage')
    view = np.lib.stride_tricks.as_strided(
      storage[offset:], shape, [stride * storage.itemsize for stride in strides], writeable=False
    )
    return view.copy()


class _RebuildParameter:
  """Stands for torch's parameter constructor: the tensor itself."""

  __slots__ = ()

  def __call__(self, tensor: np.ndarray, *unused: Any) -> np.ndarray:
    return tensor


_GLOBALS = {
  ('collections', 'OrderedDict'): collections.OrderedDict,
  ('torch._utils', '_rebuild_tensor_v2'): _RebuildTensor(),
  ('torch._utils', '_rebuild_parameter'): _RebuildParameter(),
  **{('torch', name): dtype for name, dtype in _STORAGES.items()},
  **{('torch.jit._pickle', f'build_{kind}list'): _Ignored() for kind in ('int', 'double', 'bool', 'tensor')},
  ('torch.jit._pickle', 'restore_type_tag'): _Ignored(),
}
