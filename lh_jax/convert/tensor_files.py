"""Reads the tensors of a published file, whatever its format: `.pth`, safetensors or `.npz`.

None of them is executed: `.pth` files are read by `pth_reader`, `.npz` ones with pickles forbidden. Networks are often
published as one entry of a training checkpoint; that entry is taken and the rest left.
"""

from __future__ import annotations

from collections.abc import Mapping
import os
import pathlib
from typing import Any
import zipfile

import jax.numpy as jnp
import numpy as np

from lh_jax import weight_files
from lh_jax.convert import pth_reader

# Entries of training checkpoints that hold the network, the first one found counts: moving averages are the better
# weights where both are there.
_WRAPPERS = ('params_ema', 'params', 'state_dict', 'model')
_MAX_WRAPPERS = 4  # within each other; a checkpoint that holds itself has no end
# What torch.nn.DataParallel puts before every name.
_PARALLEL = 'module.'


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads the tensors of a checkpoint.

  Args:
    path: checkpoint file; `.npz` and, for damaged files, `.pth` are told by the name, everything else by its content.

  Returns:
    Tensor name -> array.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is of none of the formats, is damaged, or holds anything but tensors.
  """
  path = pathlib.Path(path)
  if path.suffix == '.npz':
    tensors: Any = _read_npz(path)
  elif path.suffix in ('.pth', '.pt', '.bin') or pth_reader.is_pth(path):
    tensors = pth_reader.read_pth(path)
  else:
    tensors = weight_files.flatten(weight_files.load(path)[0])
  tensors = _unwrapped(tensors)
  others = [
    key if isinstance(key, str) else f'one whose name is of type {type(key).__name__}'
    for key, value in tensors.items()
    if not (isinstance(key, str) and isinstance(value, np.ndarray))
  ]
  if others:
    raise ValueError(f'{path}: expected a flat state dict, but these entries are no tensors: {", ".join(others)}.')
  if tensors and all(name.startswith(_PARALLEL) for name in tensors):
    tensors = {name.removeprefix(_PARALLEL): array for name, array in tensors.items()}
  return dict(tensors)


def _unwrapped(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
  """The network inside a training checkpoint; the checkpoint itself where it is none."""
  for _ in range(_MAX_WRAPPERS):
    inner = next((tensors[key] for key in _WRAPPERS if isinstance(tensors.get(key), Mapping)), None)
    if inner is None:
      break
    tensors = inner
  return tensors


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file.')
  try:
    # numpy leaves the file open that it cannot read, so it is opened and closed here.
    with path.open('rb') as raw, zipfile.ZipFile(raw), np.load(raw, allow_pickle=False) as file:
      return {name: _typed(file[name]) for name in file.files}
  # A damaged archive or array can raise nearly anything.
  except Exception as error:
    raise ValueError(f'{path}: not a whole .npz file of plain arrays ({error}). It may be truncated.') from error


def _typed(array: Any) -> Any:
  """An array of an .npz as what it was: np.savez knows no bfloat16 and stores its two bytes as they are."""
  return array.view(jnp.bfloat16) if isinstance(array, np.ndarray) and array.dtype.str == '|V2' else array
