"""Fourier transforms that every device does on its own part of a batch: of planes, and of the channels of a pixel.

On CPU, XLA takes a transform for one piece and gathers the whole batch on every device for each. These say that only
the two transformed axes must be whole, there and on GPU; on TPU, XLA splits them by itself, and they are left to it.
They are unscaled forward, scaled by 1 / (h w) backward, as `jnp.fft`, and have reverse-mode derivatives only.
Channels are few: `rfft_channels` is a product with a matrix, which stays with its pixel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec


def _of_planes(transform: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
  """Lets `transform(x, size)` of the last two axes be split along all others."""
  split = custom_partitioning(transform, static_argnums=(1,))

  def whole_planes(argument: Any) -> NamedSharding:
    rank = len(argument.shape)
    spec = (*argument.sharding.spec, *(None,) * rank)[: rank - 2]
    return NamedSharding(argument.sharding.mesh, PartitionSpec(*spec, None, None))

  def infer(size: tuple[int, int], mesh: Any, arguments: Any, result: Any) -> NamedSharding:
    del size, mesh, result
    return whole_planes(arguments[0])

  def partition(size: tuple[int, int], mesh: Any, arguments: Any, result: Any) -> tuple:
    del result
    sharding = whole_planes(arguments[0])
    return mesh, lambda x: transform(x, size), sharding, (sharding,)

  split.def_partition(
    infer_sharding_from_operands=infer,
    partition=partition,
    sharding_rule='... h w -> ... i j',
    need_replication_factors=('h', 'w', 'i', 'j'),
  )

  def transformed(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    # A single image may have any number of rows on a device, which cannot be written as a sharding here.
    if 1 in x.shape[:-2]:
      # Partitioned, XLA's transform on the CPU fails on an operand whose axes do not lie in their order in memory; those
      # of a new shape do.
      flat = transform(x.reshape(-1, *x.shape[-2:]), size)
      return flat.reshape(*x.shape[:-2], *flat.shape[-2:])
    return lax.platform_dependent(x, tpu=lambda x: transform(x, size), default=lambda x: split(x, size))

  return transformed


_forward = _of_planes(lambda x, size: lax.fft(x, 'RFFT', size))
_backward = _of_planes(lambda x, size: lax.fft(x, 'IRFFT', size))


def _multiplicity(plane: jax.Array, width: int) -> jax.Array:
  """How often each column of a half plane occurs in the whole one of that width."""
  columns = jnp.arange(width // 2 + 1).reshape((1,) * (plane.ndim - 1) + (-1,))
  return jnp.where((columns == 0) | (2 * columns == width), 1.0, 2.0)


@jax.custom_vjp
def rfft2(x: jax.Array) -> jax.Array:
  """Transforms the last two axes.

  Args:
    x: (..., h, w) float32.

  Returns:
    (..., h, w // 2 + 1) complex64.
  """
  return _forward(x, x.shape[-2:])


def _rfft2_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  # Only its size is needed: an empty array of as many rows and columns keeps that.
  return rfft2(x), jnp.zeros((0, *x.shape[-2:]))


def _rfft2_backward(saved: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
  h, w = saved.shape[-2:]
  return (h * w * _backward(jnp.conj(gradient) / _multiplicity(gradient, w), (h, w)),)


rfft2.defvjp(_rfft2_forward, _rfft2_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def irfft2(plane: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Inverse of `rfft2`.

  Args:
    plane: (..., h, w // 2 + 1) complex64.
    size: (h, w).

  Returns:
    (..., h, w) float32.
  """
  return _backward(plane, size)


def _irfft2_forward(plane: jax.Array, size: tuple[int, int]) -> tuple[jax.Array, None]:
  return irfft2(plane, size), None


def _irfft2_backward(size: tuple[int, int], saved: None, gradient: jax.Array) -> tuple[jax.Array]:
  del saved
  h, w = size
  plane = jnp.conj(_forward(gradient, size))
  return (plane * _multiplicity(plane, w) / (h * w),)


irfft2.defvjp(_irfft2_forward, _irfft2_backward)


def rfft_channels(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Transforms the last axis, as `jnp.fft.rfft`.

  Args:
    x: (..., C) float32.

  Returns:
    Real and imaginary part, each (..., C // 2 + 1) float32.
  """
  channels = x.shape[-1]
  angle = _angles(channels)
  both = _product(x, np.concatenate([np.cos(angle), -np.sin(angle)], axis=1))
  return tuple(jnp.split(both, 2, axis=-1))


def irfft_channels(real: jax.Array, imaginary: jax.Array, channels: int) -> jax.Array:
  """Inverse of `rfft_channels`, as `jnp.fft.irfft`: imaginary parts that no real signal has do not count.

  Args:
    real: (..., channels // 2 + 1) float32.
    imaginary: likewise.
    channels: of the result.

  Returns:
    (..., channels) float32.
  """
  angle = _angles(channels)
  index = np.arange(angle.shape[1])
  often = np.where((index == 0) | (2 * index == channels), 1.0, 2.0)
  matrix = np.concatenate([often * np.cos(angle), -often * np.sin(angle)], axis=1) / channels
  return _product(jnp.concatenate([real, imaginary], axis=-1), matrix.T)


def _angles(channels: int) -> np.ndarray:
  """2 pi c k / C of every channel c and frequency k, (C, C // 2 + 1); the product is reduced first, to be exact."""
  index = np.arange(channels)[:, None] * np.arange(channels // 2 + 1)[None] % channels
  return 2 * np.pi * index / channels


def _product(x: jax.Array, matrix: np.ndarray) -> jax.Array:
  # In float32 on every backend: GPUs and TPUs round the operands of a product unless they are told otherwise.
  return lax.dot_general(
    x, jnp.asarray(matrix, jnp.float32), (((x.ndim - 1,), (0,)), ((), ())), precision=lax.Precision.HIGHEST
  )
