"""Inception-v3 (Szegedy et al. 2016, arXiv 1512.00567) as the Frechet inception distance needs it.

The network of the file `pt_inception-2015-12-05`, a port of the TensorFlow graph that FID was published with. It differs
from torchvision's: average pooling does not count the padding, the last block pools by maximum, and the weights are
others. (B, H, W, 3) float32 in [-1, 1], 299 x 299 by convention, to (B, 2048) pooled features. Batch normalisation runs
on stored statistics, which are parameters here. Modules carry the names of the published tensors; the classifier is
left out.
"""

from __future__ import annotations

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax import lax

FEATURES = 2048
SIDE = 299
_EPSILON = 1e-3


class ConvBN(nn.Module):
  """Convolution without bias, batch normalisation on stored statistics, ReLU.

  Attributes:
    channels: of the result.
    kernel: (height, width) of the window.
    stride: of the window.
    padding: zeros beyond each border, (rows, columns).
  """

  channels: int
  kernel: tuple[int, int]
  stride: int = 1
  padding: tuple[int, int] = (0, 0)

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.Conv(
      self.channels,
      self.kernel,
      strides=self.stride,
      padding=tuple((side, side) for side in self.padding),
      use_bias=False,
      precision=lax.Precision.HIGHEST,
      name='conv',
    )(x)
    x = nn.BatchNorm(use_running_average=True, epsilon=_EPSILON, name='bn')(x)
    return nn.relu(x)


def _square(channels: int, side: int, name: str, *, stride: int = 1, padding: int = 0) -> ConvBN:
  return ConvBN(channels, (side, side), stride, (padding, padding), name=name)


def _row(channels: int, side: int, name: str) -> ConvBN:
  """A window of one row."""
  return ConvBN(channels, (1, side), padding=(0, side // 2), name=name)


def _column(channels: int, side: int, name: str) -> ConvBN:
  """A window of one column."""
  return ConvBN(channels, (side, 1), padding=(side // 2, 0), name=name)


def _shrink(x: jax.Array) -> jax.Array:
  return nn.max_pool(x, (3, 3), strides=(2, 2))


def _average(x: jax.Array) -> jax.Array:
  return nn.avg_pool(x, (3, 3), strides=(1, 1), padding=((1, 1), (1, 1)), count_include_pad=False)


def _maximum(x: jax.Array) -> jax.Array:
  return nn.max_pool(x, (3, 3), strides=(1, 1), padding=((1, 1), (1, 1)))


class BlockA(nn.Module):
  """35 x 35 block: 1x1, 5x5, double 3x3 and pooled branches.

  Attributes:
    pool_channels: of the pooled branch.
  """

  pool_channels: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    five = _square(64, 5, 'branch5x5_2', padding=2)(_square(48, 1, 'branch5x5_1')(x))
    three = _square(96, 3, 'branch3x3dbl_2', padding=1)(_square(64, 1, 'branch3x3dbl_1')(x))
    three = _square(96, 3, 'branch3x3dbl_3', padding=1)(three)
    pooled = _square(self.pool_channels, 1, 'branch_pool')(_average(x))
    return jnp.concatenate([_square(64, 1, 'branch1x1')(x), five, three, pooled], axis=-1)


class BlockB(nn.Module):
  """From 35 x 35 to 17 x 17."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    double = _square(96, 3, 'branch3x3dbl_2', padding=1)(_square(64, 1, 'branch3x3dbl_1')(x))
    double = _square(96, 3, 'branch3x3dbl_3', stride=2)(double)
    return jnp.concatenate([_square(384, 3, 'branch3x3', stride=2)(x), double, _shrink(x)], axis=-1)


class BlockC(nn.Module):
  """17 x 17 block with factorised 7x7 windows.

  Attributes:
    channels: inside the factorised branches.
  """

  channels: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    c = self.channels
    seven = _row(c, 7, 'branch7x7_2')(_square(c, 1, 'branch7x7_1')(x))
    seven = _column(192, 7, 'branch7x7_3')(seven)
    double = _column(c, 7, 'branch7x7dbl_2')(_square(c, 1, 'branch7x7dbl_1')(x))
    double = _column(c, 7, 'branch7x7dbl_4')(_row(c, 7, 'branch7x7dbl_3')(double))
    double = _row(192, 7, 'branch7x7dbl_5')(double)
    pooled = _square(192, 1, 'branch_pool')(_average(x))
    return jnp.concatenate([_square(192, 1, 'branch1x1')(x), seven, double, pooled], axis=-1)


class BlockD(nn.Module):
  """From 17 x 17 to 8 x 8."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    three = _square(320, 3, 'branch3x3_2', stride=2)(_square(192, 1, 'branch3x3_1')(x))
    seven = _row(192, 7, 'branch7x7x3_2')(_square(192, 1, 'branch7x7x3_1')(x))
    seven = _square(192, 3, 'branch7x7x3_4', stride=2)(_column(192, 7, 'branch7x7x3_3')(seven))
    return jnp.concatenate([three, seven, _shrink(x)], axis=-1)


class BlockE(nn.Module):
  """8 x 8 block whose 3x3 branches fork into a row and a column.

  Attributes:
    pool_by_maximum: instead of by average; the last block's, which looks like a slip of the 2015 graph.
  """

  pool_by_maximum: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    three = _square(384, 1, 'branch3x3_1')(x)
    double = _square(384, 3, 'branch3x3dbl_2', padding=1)(_square(448, 1, 'branch3x3dbl_1')(x))
    pooled = _square(192, 1, 'branch_pool')((_maximum if self.pool_by_maximum else _average)(x))
    branches = [
      _square(320, 1, 'branch1x1')(x),
      _row(384, 3, 'branch3x3_2a')(three),
      _column(384, 3, 'branch3x3_2b')(three),
      _row(384, 3, 'branch3x3dbl_3a')(double),
      _column(384, 3, 'branch3x3dbl_3b')(double),
      pooled,
    ]
    return jnp.concatenate(branches, axis=-1)


class Inception(nn.Module):
  """The network up to the pooled features."""

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    x = _square(32, 3, 'Conv2d_1a_3x3', stride=2)(images)
    x = _square(64, 3, 'Conv2d_2b_3x3', padding=1)(_square(32, 3, 'Conv2d_2a_3x3')(x))
    x = _square(192, 3, 'Conv2d_4a_3x3')(_square(80, 1, 'Conv2d_3b_1x1')(_shrink(x)))
    x = _shrink(x)
    for letter, channels in zip('bcd', (32, 64, 64)):
      x = BlockA(channels, name=f'Mixed_5{letter}')(x)
    x = BlockB(name='Mixed_6a')(x)
    for letter, channels in zip('bcde', (128, 160, 160, 192)):
      x = BlockC(channels, name=f'Mixed_6{letter}')(x)
    x = BlockD(name='Mixed_7a')(x)
    x = BlockE(False, name='Mixed_7b')(x)
    x = BlockE(True, name='Mixed_7c')(x)
    return jnp.mean(x, axis=(1, 2))


def abstract_variables() -> dict:
  """Shapes and dtypes of the parameters ('params') and of the statistics ('batch_stats').

  Returns:
    Nested dicts of `jax.ShapeDtypeStruct`.
  """
  images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
  return jax.eval_shape(Inception().init, jax.random.key(0), images)
