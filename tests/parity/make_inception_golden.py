"""Writes tests/fixtures/inception_golden.npz: features of FID's Inception network by an independent implementation.

    python tests/parity/make_inception_golden.py

Written with torch 2.13.0 and torch-fidelity 0.4.0 (Apache-2.0; its network only), float32 on a CPU. The weights are not
the published ones but random, by `recipe`, so that the file holds a few numbers and no weights. Torch is needed here
and nowhere else: the tests make the same weights from the same recipe.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
import importlib
import importlib.util
import pathlib
import sys
import types
import zlib

import numpy as np

FIXTURE = pathlib.Path(__file__).resolve().parents[1] / 'fixtures' / 'inception_golden.npz'
# Smaller than 299 x 299, and odd: the network takes any size, and the test has to be quick.
SIZE = (107, 123)


def recipe(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, np.ndarray]:
  """Random tensors of a state dict, each a function of its name, that keep activations near 1.

  Args:
    shapes: (name, shape) of each tensor.

  Returns:
    name -> float32 array.
  """
  state = {}
  for name, shape in shapes:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape, np.float32)
    if name.endswith('conv.weight'):
      values *= np.sqrt(2.0 / np.prod(shape[1:]), dtype=np.float32)
    elif name.endswith('running_var'):
      values = np.exp(0.2 * values)
    elif name.endswith('bn.weight'):
      values = 1.0 + 0.1 * values
    else:
      values *= np.float32(0.1)
    state[name] = values.astype(np.float32)
  return state


def shapes(variables) -> Iterable[tuple[str, tuple[int, ...]]]:
  """The tensors of the published file, but for its classifier and its counters, read off our variables.

  Args:
    variables: `models.inception.abstract_variables()`.

  Yields:
    (name, shape) of each.
  """
  leaves = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}

  def walk(tree, path):
    for name, value in tree.items():
      if hasattr(value, 'items'):
        yield from walk(value, (*path, name))
      else:
        shape = value.shape if len(value.shape) == 1 else (value.shape[3], value.shape[2], *value.shape[:2])
        yield '.'.join((*path, leaves[name])), shape

  for tree in variables.values():
    yield from walk(tree, ())


def picture() -> np.ndarray:
  """(H, W, 3) uint8 with edges and texture."""
  rng = np.random.default_rng(0)
  rough = rng.standard_normal((*SIZE, 3)).cumsum(0).cumsum(1)
  return np.clip(128 + 40 * rough / rough.std() + 20 * rng.standard_normal(rough.shape), 0, 255).astype(np.uint8)


def main() -> None:
  import torch

  # Without the package's own __init__, which wants torchvision.
  package = types.ModuleType('torch_fidelity')
  package.__path__ = importlib.util.find_spec('torch_fidelity').submodule_search_locations
  sys.modules['torch_fidelity'] = package
  oracle = importlib.import_module('torch_fidelity.feature_extractor_inceptionv3')

  network = build(oracle).eval()
  sizes = [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items() if tensor.ndim]
  state = {name: torch.from_numpy(values) for name, values in recipe(sizes).items()}
  missing, unexpected = network.load_state_dict(state, strict=False)
  assert not unexpected and all(name.endswith('num_batches_tracked') for name in missing)
  x = torch.from_numpy(picture()).permute(2, 0, 1)[None].float() / 127.5 - 1.0
  with torch.no_grad():
    x = network(x)
  np.savez(FIXTURE, features=x[0, :, 0, 0].numpy())
  print(FIXTURE, x.shape, float(x.mean()), float(x.std()))


def build(oracle):
  """The layers of torch-fidelity in their order, named as in its network, which would fetch the published weights."""
  from torch import nn

  conv = oracle.BasicConv2d
  layers = collections.OrderedDict(
    Conv2d_1a_3x3=conv(3, 32, kernel_size=3, stride=2),
    Conv2d_2a_3x3=conv(32, 32, kernel_size=3),
    Conv2d_2b_3x3=conv(32, 64, kernel_size=3, padding=1),
    MaxPool_1=nn.MaxPool2d(kernel_size=3, stride=2),
    Conv2d_3b_1x1=conv(64, 80, kernel_size=1),
    Conv2d_4a_3x3=conv(80, 192, kernel_size=3),
    MaxPool_2=nn.MaxPool2d(kernel_size=3, stride=2),
    Mixed_5b=oracle.InceptionA(192, pool_features=32),
    Mixed_5c=oracle.InceptionA(256, pool_features=64),
    Mixed_5d=oracle.InceptionA(288, pool_features=64),
    Mixed_6a=oracle.InceptionB(288),
    Mixed_6b=oracle.InceptionC(768, channels_7x7=128),
    Mixed_6c=oracle.InceptionC(768, channels_7x7=160),
    Mixed_6d=oracle.InceptionC(768, channels_7x7=160),
    Mixed_6e=oracle.InceptionC(768, channels_7x7=192),
    Mixed_7a=oracle.InceptionD(768),
    Mixed_7b=oracle.InceptionE_1(1280),
    Mixed_7c=oracle.InceptionE_2(2048),
    AvgPool=nn.AdaptiveAvgPool2d(output_size=(1, 1)),
  )
  return nn.Sequential(layers)


if __name__ == '__main__':
  main()
