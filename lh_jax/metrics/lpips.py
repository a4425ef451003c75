"""LPIPS of one pair of 8-bit images of any size, in memory that does not grow with the height.

Contract: uint8 RGB in, one float out; 0 for equal images. The networks are in `models.lpips`, their weights in files
that `python -m lh_jax.convert lpips_alex` and `lpips_vgg` write once. Published scripts that read with OpenCV feed BGR:
who needs their numbers flips the channels of both images first.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lh_jax import weight_files
from lh_jax.metrics import images
from lh_jax.metrics import weights
from lh_jax.models import lpips as network

# Rows of a band. Wider bands cost memory, narrower ones read the deep layers' weights more often.
BAND = 64


class Lpips:
  """A perceptual distance with its weights.

  Attributes:
    net: 'alex' or 'vgg'.
  """

  def __init__(self, net: str, params: network.Tree, *, band: int = BAND):
    """Keeps the weights on the device.

    Args:
      net: key of `models.lpips.NETWORKS`.
      params: tree of `models.lpips.abstract_params`.
      band: image rows computed at a time, a multiple of 16; the value does not depend on it.

    Raises:
      ValueError: unknown network, or a band that is no multiple of 16.
    """
    self.net = net
    self._params = jax.device_put(params)
    self._stream = network.Stream(network_layers(net), band)

  def __call__(self, a: np.ndarray, b: np.ndarray) -> float:
    """LPIPS v0.1 of a pair.

    Args:
      a: (H, W, 3) uint8 RGB.
      b: the same shape and dtype.

    Returns:
      The distance, at least 0; it is symmetric.

    Raises:
      ValueError: the images are no pair of uint8 (H, W, 3), or too small for the network.
    """
    images.check_pair('LPIPS', a, b)
    layers, band = self._stream.layers, self._stream.band
    heights, widths = (network.map_sides(layers, side) for side in a.shape[:2])
    if min(heights + widths) < 1:
      raise ValueError(f'LPIPS got images of {a.shape[0]}x{a.shape[1]} pixels, too small for the layers of {self.net}')
    heights = jnp.asarray(heights, jnp.int32)
    carry = self._stream.first_carry(a.shape[1])
    total = 0.0
    for i in range(self._stream.steps(a.shape[0])):
      rows = np.zeros((2, band, *a.shape[1:]), np.uint8)
      for filled, image in zip(rows, (a, b)):
        part = image[i * band : (i + 1) * band]
        filled[: len(part)] = part
      carry, sums = _step(self._params, carry, rows, jnp.int32(i), heights, stream=self._stream)
      total += np.asarray(sums, np.float64).sum(axis=1)
    return float(network.mean_distances(total, layers, a.shape[:2]).sum())


def network_layers(net: str) -> tuple[network.Layer, ...]:
  """Layers by name.

  Args:
    net: 'alex' or 'vgg'.

  Returns:
    The layers.

  Raises:
    ValueError: unknown name.
  """
  if net not in network.NETWORKS:
    raise ValueError(f'unknown LPIPS network {net!r}; net must be one of {", ".join(network.NETWORKS)}')
  return network.NETWORKS[net]


def load_lpips(net: str, path: weight_files.PathLike | None = None) -> Lpips:
  """LPIPS with the published weights.

  Args:
    net: 'alex' or 'vgg'.
    path: file written by `python -m lh_jax.convert lpips_<net>`; None means its default path.

  Returns:
    The distance; calls of it share compiled programs.

  Raises:
    FileNotFoundError: the file is missing; the message says how to make it.
    ValueError: unknown network, or a file that is broken or of another network.
  """
  layers = network_layers(net)
  name = f'lpips_{net}'
  return Lpips(net, weights.load(name, path, network.abstract_params(layers)))


@functools.partial(jax.jit, static_argnames='stream', donate_argnums=1)
def _step(params: Any, carry: Any, rows: jax.Array, index: jax.Array, heights: jax.Array, *, stream: network.Stream):
  return network.step(params, carry, rows.astype(jnp.float32) / 255.0, index, heights, stream=stream)
