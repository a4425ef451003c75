"""LPIPS v0.1 (Zhang et al. 2018, arXiv 1801.03924) on AlexNet and VGG16, band by band and exact.

Images are (2, H, W, 3) float32 RGB in [0, 1]: the two that are compared. The distance is the sum over five taps of the
spatial mean of a weighted squared difference of channels that were normalised to unit length.

An image goes through in bands of rows from top to bottom. Every layer keeps the last rows of its input, just those that
its next windows still need, so nothing is computed twice, memory depends on the width and the band but not on the
height, and each value is the one of the whole image: rows beyond the image are zeros in front of every layer, which is
its padding. `Stream` counts rows, `step` is the one program that every band runs through, `mean_distances` divides.
Pure functions of parameters and arrays; the weights are fetched by `metrics.load_lpips`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
import numpy as np

# Images in [-1, 1] become (x - SHIFT) / SCALE.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10

Tree = dict[str, Any]


class Layer(NamedTuple):
  """A convolution followed by ReLU, or, without a name, a max pooling.

  Attributes:
    name: of the convolution's parameters; '' pools.
    kernel: pixels of the window on a side.
    stride: of the window.
    padding: zeros beyond each border; none when pooling.
    channels: of the result; 0 when pooling.
    tap: whether the result enters the distance.
  """

  name: str
  kernel: int
  stride: int
  padding: int = 0
  channels: int = 0
  tap: bool = False


_POOL_3, _POOL_2 = Layer('', 3, 2), Layer('', 2, 2)


def _vgg_stage(stage: int, count: int, channels: int) -> tuple[Layer, ...]:
  return tuple(Layer(f'conv{stage}_{i}', 3, 1, 1, channels, i == count) for i in range(1, count + 1))


NETWORKS: dict[str, tuple[Layer, ...]] = {
  'alex': (
    Layer('conv1', 11, 4, 2, 64, True),
    _POOL_3,
    Layer('conv2', 5, 1, 2, 192, True),
    _POOL_3,
    Layer('conv3', 3, 1, 1, 384, True),
    Layer('conv4', 3, 1, 1, 256, True),
    Layer('conv5', 3, 1, 1, 256, True),
  ),
  'vgg': (
    *_vgg_stage(1, 2, 64),
    _POOL_2,
    *_vgg_stage(2, 2, 128),
    _POOL_2,
    *_vgg_stage(3, 3, 256),
    _POOL_2,
    *_vgg_stage(4, 3, 512),
    _POOL_2,
    *_vgg_stage(5, 3, 512),
  ),
}


def abstract_params(layers: tuple[Layer, ...]) -> Tree:
  """Shapes and dtypes of the parameters.

  Args:
    layers: one of NETWORKS.

  Returns:
    {convolution: {'kernel': (k, k, in, out), 'bias': (out,)}, 'head_<convolution>': {'kernel': (channels,)}}, as
    nested dicts of `jax.ShapeDtypeStruct`.
  """
  tree, channels = {}, 3
  for layer in layers:
    if layer.name:
      shapes = {'kernel': (layer.kernel, layer.kernel, channels, layer.channels), 'bias': (layer.channels,)}
      channels = layer.channels
      tree[layer.name] = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
      if layer.tap:
        tree[f'head_{layer.name}'] = {'kernel': jax.ShapeDtypeStruct((channels,), jnp.float32)}
  return tree


def map_sides(layers: tuple[Layer, ...], side: int) -> list[int]:
  """Sides of the network's input and of each layer's result, for an image side.

  Args:
    layers: one of NETWORKS.
    side: pixels of the image.

  Returns:
    One more number than layers; not positive where the image is too small.
  """
  sides = [side]
  for layer in layers:
    sides.append((sides[-1] + 2 * layer.padding - layer.kernel) // layer.stride + 1)
  return sides


@dataclasses.dataclass(frozen=True)
class Stream:
  """Which rows of which map a band brings.

  Attributes:
    layers: one of NETWORKS.
    band: image rows of a step, a multiple of the total stride.
  """

  layers: tuple[Layer, ...]
  band: int

  def __post_init__(self):
    if self.band < 1 or self.band % self.stride:
      raise ValueError(f'an LPIPS band of {self.band} rows; band must be a positive multiple of {self.stride}')

  @property
  def stride(self) -> int:
    """Image rows per row of the last map."""
    return int(np.prod([layer.stride for layer in self.layers]))

  def starts(self) -> list[int]:
    """First row that step 0 brings of the input and of each layer's result; never positive: maps lag behind.

    Returns:
      One more number than layers. Step i brings `rows()` rows from start + i * rows on.
    """
    starts = [0]
    for layer in self.layers:
      starts.append((starts[-1] + layer.padding - layer.kernel) // layer.stride + 1)
    return starts

  def rows(self) -> list[int]:
    """Rows that each step brings of the input and of each layer's result.

    Returns:
      One more number than layers.
    """
    rows = [self.band]
    for layer in self.layers:
      rows.append(rows[-1] // layer.stride)
    return rows

  def kept(self) -> list[int]:
    """Rows of its input that each layer keeps from one step to the next.

    Returns:
      As many numbers as layers.
    """
    starts = self.starts()
    return [
      start - (following * layer.stride - layer.padding)
      for layer, start, following in zip(self.layers, starts, starts[1:])
    ]

  def steps(self, height: int) -> int:
    """Steps until the last row of every map has been brought.

    Args:
      height: of the image.

    Returns:
      Their number.
    """
    sides = map_sides(self.layers, height)
    return max(-(-(side - start) // rows) for side, start, rows in zip(sides, self.starts(), self.rows()))

  def first_carry(self, width: int) -> tuple[jax.Array, ...]:
    """What the layers keep before the first band: zeros.

    Args:
      width: of the image.

    Returns:
      (2, kept, w, C) float32 for each layer.
    """
    channels, carry = 3, []
    for layer, kept, columns in zip(self.layers, self.kept(), map_sides(self.layers, width)):
      carry.append(jnp.zeros((2, kept, columns, channels), jnp.float32))
      channels = layer.channels or channels
    return tuple(carry)


def step(
  params: Tree, carry: tuple[jax.Array, ...], images: jax.Array, index: jax.Array, heights: jax.Array, *, stream: Stream
) -> tuple[tuple[jax.Array, ...], jax.Array]:
  """Takes one band of both images through the network.

  Args:
    params: tree of `abstract_params`.
    carry: of the step before, or `stream.first_carry`.
    images: (2, band, W, 3) float32 in [0, 1]; rows below the image hold anything.
    index: () int32, the number of the step.
    heights: (layers + 1,) int32, the rows of the whole image and of each whole map: `map_sides` of the height.
    stream: the row counts.

  Returns:
    (carry, sums): sums is (taps, w) float32, the weighted squared differences of the rows brought, summed over rows;
    the widths of the taps differ, so each is padded with zeros to the widest.
  """
  shift, scale = (np.array(values, np.float32).reshape(1, 1, 1, 3) for values in (SHIFT, SCALE))
  x = (2.0 * images - 1.0 - shift) / scale
  starts, rows = stream.starts(), stream.rows()

  def inside(i: int) -> jax.Array:
    """Which of the rows brought of map i lie in the image: (1, rows, 1, 1) bool."""
    row = starts[i] + index * rows[i] + jnp.arange(rows[i])
    return ((row >= 0) & (row < heights[i])).reshape(1, -1, 1, 1)

  x = jnp.where(inside(0), x, 0.0)
  kept, sums = [], []
  for i, layer in enumerate(stream.layers):
    window = jnp.concatenate([carry[i], x], axis=1)
    kept.append(window[:, window.shape[1] - carry[i].shape[1] :])
    x = _apply(layer, params, window)
    x = jnp.where(inside(i + 1), x, 0.0)
    if layer.tap:
      sums.append(_row_sum(x, params[f'head_{layer.name}']['kernel']))
  widest = max(column.shape[0] for column in sums)
  return tuple(kept), jnp.stack([jnp.pad(column, (0, widest - column.shape[0])) for column in sums])


def mean_distances(sums: np.ndarray, layers: tuple[Layer, ...], size: tuple[int, int]) -> np.ndarray:
  """The distance at each tap.

  Args:
    sums: (taps,) sums over the whole maps.
    layers: one of NETWORKS.
    size: (H, W) of the image.

  Returns:
    (taps,) spatial means; LPIPS is their sum.
  """
  rows, columns = (map_sides(layers, side)[1:] for side in size)
  return np.asarray(sums) / [h * w for layer, h, w in zip(layers, rows, columns) if layer.tap]


def _apply(layer: Layer, params: Tree, x: jax.Array) -> jax.Array:
  """A layer on rows that are all there already: padding is left and right only."""
  if not layer.name:
    shape = (1, layer.kernel, layer.kernel, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, shape, (1, layer.stride, layer.stride, 1), 'VALID')
  x = lax.conv_general_dilated(
    x,
    params[layer.name]['kernel'],
    (layer.stride, layer.stride),
    ((0, 0), (layer.padding, layer.padding)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    # The default precision of accelerators is not that of the published numbers.
    precision=lax.Precision.HIGHEST,
  )
  return jnp.maximum(x + params[layer.name]['bias'].reshape(1, 1, 1, -1), 0.0)


def _row_sum(x: jax.Array, head: jax.Array) -> jax.Array:
  """(2, h, w, C) to (w,): the weighted squared difference of unit vectors, summed over rows."""
  x = x / (jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True)) + EPSILON)
  difference = jnp.square(x[0] - x[1])
  return jnp.sum(jnp.sum(difference * head.reshape(1, 1, -1), axis=-1), axis=0)
