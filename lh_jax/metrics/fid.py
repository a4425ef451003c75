"""Frechet inception distance (Heusel et al. 2017, arXiv 1706.08500) between two sets of images.

Contract: uint8 RGB images go in one at a time; sums of features are kept in float64. Images are shrunk to 299 x 299 as
the "clean" FID does it (Parmar et al. 2022, arXiv 2104.11222): antialiased bicubic, as in Pillow, not rounded to 8 bits;
values are then scaled to [-1, 1] as pytorch-fid does, so numbers are comparable among themselves first of all.
A 4K image shrunk to 299 pixels has lost what restoration adds: `patches` cuts it at full resolution instead, and what is
made of them must be called patch FID. There are no weights but the published ones: without their file there is no FID.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
import numpy as np

from lh_jax import weight_files
from lh_jax.metrics import images
from lh_jax.metrics import weights
from lh_jax.models import inception
from lh_jax.ops import resize

SIDE = inception.SIDE


@dataclasses.dataclass
class Statistics:
  """Mean and covariance of features, gathered vector by vector.

  Attributes:
    count: vectors so far.
    total: (D,) float64 sum of them.
    products: (D, D) float64 sum of their outer products.
  """

  count: int
  total: np.ndarray
  products: np.ndarray

  @classmethod
  def empty(cls, size: int = inception.FEATURES) -> Statistics:
    """No vectors yet.

    Args:
      size: D, numbers in a vector.

    Returns:
      New statistics.
    """
    return cls(0, np.zeros(size), np.zeros((size, size)))

  def add(self, features: np.ndarray) -> None:
    """Takes vectors in.

    Args:
      features: (N, D).
    """
    features = np.asarray(features, np.float64)
    self.count += len(features)
    self.total += features.sum(axis=0)
    self.products += features.T @ features

  def merge(self, other: Statistics) -> Statistics:
    """Statistics of the vectors of both, for example of another host.

    Args:
      other: gathered elsewhere.

    Returns:
      New statistics.
    """
    return Statistics(self.count + other.count, self.total + other.total, self.products + other.products)

  def moments(self) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased covariance.

    Returns:
      (D,) and (D, D) float64.

    Raises:
      ValueError: there are fewer than two vectors.
    """
    if self.count < 2:
      raise ValueError(f'FID got {self.count} images or patches in a set; a covariance needs at least 2')
    mean = self.total / self.count
    return mean, (self.products - self.count * np.outer(mean, mean)) / (self.count - 1)


def distance(a: Statistics, b: Statistics) -> float:
  """Squared Frechet distance of the two Gaussians: |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)).

  The trace of the root is the sum of the roots of the eigenvalues of A^(1/2) B A^(1/2), which is symmetric: with fewer
  images than features, where A and B are singular, it needs none of the usual additions to the diagonal. The value is
  biased upwards for small sets: compare only sets of equal counts.

  Args:
    a: statistics of one set.
    b: statistics of the other.

  Returns:
    The distance, 0 for equal sets up to rounding.

  Raises:
    ValueError: a set has fewer than two vectors.
  """
  (mean_a, cov_a), (mean_b, cov_b) = a.moments(), b.moments()
  values, vectors = np.linalg.eigh(cov_a)
  root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
  overlap = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0.0)).sum()
  return float(np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2.0 * overlap)


class Inception:
  """The feature extractor with its weights."""

  def __init__(self, variables: dict[str, Any]):
    """Keeps the weights on the device.

    Args:
      variables: tree of `models.inception.abstract_variables`.
    """
    self._variables = jax.device_put(variables)

  def __call__(self, image: np.ndarray) -> np.ndarray:
    """Features of one image, shrunk to 299 x 299 where it is of another size.

    Args:
      image: (H, W, 3) uint8 RGB.

    Returns:
      (1, 2048) float32, as `Statistics.add` takes them.

    Raises:
      ValueError: the image is not uint8 (H, W, 3).
    """
    images.check('FID', image)
    rows, columns = (
      jnp.asarray(resize.interpolation_matrix(side, SIDE, kind='cubic', antialias=True), jnp.float32)
      for side in image.shape[:2]
    )
    return np.asarray(_features(self._variables, image, rows, columns))


def load(path: weight_files.PathLike | None = None) -> Inception:
  """The feature extractor with the published weights.

  Args:
    path: file written by `python -m lh_jax.convert inception_fid FILE`; None means its default path.

  Returns:
    The extractor.

  Raises:
    FileNotFoundError: the file is missing; the message says how to make it.
    ValueError: the file is broken or of another network.
  """
  return Inception(weights.load('inception_fid', path, inception.abstract_variables()))


def patches(image: np.ndarray) -> np.ndarray:
  """Cuts an image into 299 x 299 patches at full resolution, for patch FID: side by side from the top left corner.

  Args:
    image: (H, W, 3).

  Returns:
    (N, 299, 299, 3); rows and columns that fill no patch are left out.

  Raises:
    ValueError: the image is smaller than a patch.
  """
  rows, columns = image.shape[0] // SIDE, image.shape[1] // SIDE
  if not rows * columns:
    raise ValueError(f'patch FID got an image of {image.shape[0]}x{image.shape[1]} pixels; a patch is {SIDE}x{SIDE}')
  grid = image[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE, 3)
  return grid.swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)


@jax.jit
def shrink(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
  """Resamples one image.

  Args:
    image: (H, W, 3) in [0, 255].
    rows: (h, H), `ops.resize.interpolation_matrix`.
    columns: (w, W).

  Returns:
    (h, w, 3) float32 in [0, 255], not rounded.
  """
  precision = lax.Precision.HIGHEST
  # Columns first, as Pillow does it; floats are not rounded in between, so the order does not matter.
  x = jnp.einsum('qw,hwc->hqc', columns, image.astype(jnp.float32), precision=precision)
  return jnp.clip(jnp.einsum('ph,hqc->pqc', rows, x, precision=precision), 0.0, 255.0)


@jax.jit
def _features(variables: dict[str, Any], image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
  x = shrink(image, rows, columns) / 127.5 - 1.0
  return inception.Inception().apply(variables, x[None])
