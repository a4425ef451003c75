"""NIQE (Mittal, Soundararajan and Bovik 2013, IEEE SPL 20(3)): how far an image is from natural ones, without reference.

Contract: uint8 RGB in, a float out, lower is better. The image is normalised by local mean and contrast (MSCN) at full
and at half size; in blocks of 96 x 96 pixels, asymmetric generalised Gaussians fitted to it and to products of
neighbours give 36 features; NIQE is the distance of their Gaussian from that of pristine photographs, the model.

The published model is not ours to ship: `load` reads its file, `fit` makes one of the user's own photographs, whose
values compare only with each other. As in the Python versions that restoration papers quote, luma is BT.601 in 16..235,
rounded; the authors' MATLAB code takes rgb2gray: luma='gray'. MATLAB's replicated borders, its antialiased imresize and
its circular shifts within a block are followed. Where a neighbourhood is flat, MSCN is exactly 0 here and rounding
noise of either sign there, and blocks without a fit are left out of the mean too: burnt-out images differ.
"""

from __future__ import annotations

from collections.abc import Iterable
import functools
import os
import pathlib
from typing import NamedTuple
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
from scipy import io
from scipy import special

from lh_jax.metrics import images
from lh_jax.ops.color import rgb_to_y

BLOCK = 96
FEATURES = 36
LUMAS = ('y', 'gray')
SHARPNESS = 0.75
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
_MEAN_NAMES = ('mu_prisparam', 'mu_pris_param', 'mean')
_COVARIANCE_NAMES = ('cov_prisparam', 'cov_pris_param', 'covariance')


class Model(NamedTuple):
  """Gaussian of the features of pristine photographs.

  Attributes:
    mean: (36,) float64.
    covariance: (36, 36) float64.
  """

  mean: np.ndarray
  covariance: np.ndarray


def score(image: np.ndarray, model: Model, *, luma: str = 'y') -> float:
  """NIQE of one image.

  Args:
    image: (H, W, 3) uint8 RGB, at least 96 pixels high and wide and of at least two blocks; rows and columns beyond
      whole blocks are left out.
    model: of `load` or `fit`.
    luma: 'y' or 'gray'; that of the model.

  Returns:
    The distance, at least 0.

  Raises:
    ValueError: the image is not uint8 (H, W, 3), too small, or flat in all blocks but one; or an unknown luma.
  """
  features, _ = block_features(image, luma=luma)
  whole = features[~np.isnan(features).any(axis=1)]
  if len(whole) < 2:
    raise ValueError(f'NIQE got an image with {len(whole)} blocks that are not flat; a covariance needs at least 2')
  offset = model.mean - whole.mean(axis=0)
  covariance = (model.covariance + np.cov(whole, rowvar=False)) / 2.0
  return float(np.sqrt(np.maximum(offset @ np.linalg.pinv(covariance) @ offset, 0.0)))


def fit(photographs: Iterable[np.ndarray], *, luma: str = 'y') -> Model:
  """The model of a set of pristine photographs: Gaussian of the features of their sharp blocks.

  As in the paper's Sec. 2.2, a block counts if its mean local deviation exceeds 0.75 times the image's largest.

  Args:
    photographs: (H, W, 3) uint8 RGB each, as `score` takes them.
    luma: 'y' or 'gray'.

  Returns:
    The model.

  Raises:
    ValueError: an image does not fit, as in `score`, or there are not more sharp blocks than features.
  """
  chosen = [np.zeros((0, FEATURES))]
  for image in photographs:
    features, sharpness = block_features(image, luma=luma)
    chosen.append(features[sharpness > SHARPNESS * sharpness.max()])
  features = np.concatenate(chosen)
  features = features[~np.isnan(features).any(axis=1)]
  if len(features) <= FEATURES:
    raise ValueError(
      f'a NIQE model of {len(features)} sharp blocks; more than {FEATURES} are needed: give more or larger photographs'
    )
  return Model(features.mean(axis=0), np.cov(features, rowvar=False))


def save(path: str | os.PathLike[str], model: Model) -> None:
  """Writes a model, under the names of the published file.

  Args:
    path: `.npz` file.
    model: of `fit`.
  """
  with open(path, 'wb') as file:
    np.savez(file, mu_prisparam=model.mean[None], cov_prisparam=model.covariance)


def load(path: str | os.PathLike[str]) -> Model:
  """Reads a model: the published `.mat`, its `.npz` copies, or a file of `save`.

  Args:
    path: the file.

  Returns:
    The model.

  Raises:
    FileNotFoundError: there is no such file; the message says where models come from.
    ValueError: the file is of neither format, or does not hold a mean of 36 and a covariance of 36 x 36 numbers.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}: no such NIQE model. Give the modelparameters.mat published with the paper, an .npz copy of it, or one '
      'made with niqe.fit and niqe.save from your own pristine photographs. Without a model there is no NIQE.'
    )
  try:
    if zipfile.is_zipfile(path):
      with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    else:
      arrays = io.loadmat(path)
  # A damaged file can raise nearly anything.
  except Exception as error:
    raise ValueError(f'{path}: not a readable NIQE model (.mat or .npz): {error}.') from error
  found = []
  for names, shape in ((_MEAN_NAMES, (FEATURES,)), (_COVARIANCE_NAMES, (FEATURES, FEATURES))):
    array = next((np.asarray(arrays[name]) for name in names if name in arrays), None)
    if array is None or array.size != np.prod(shape) or not np.isfinite(array).all():
      raise ValueError(
        f'{path}: a NIQE model holds {shape} finite numbers named one of {", ".join(names)}; this one holds '
        f'{", ".join(sorted(name for name in arrays if not name.startswith("__")))}'
      )
    found.append(array.astype(np.float64).reshape(shape))
  return Model(*found)


def block_features(image: np.ndarray, *, luma: str = 'y') -> tuple[np.ndarray, np.ndarray]:
  """Features and sharpness of an image's blocks.

  Args:
    image: (H, W, 3) uint8 RGB.
    luma: 'y' or 'gray'.

  Returns:
    (N, 36) float64 features, rows of NaN where a block is flat, and (N,) the mean local deviation at full size.

  Raises:
    ValueError: the image is not uint8 (H, W, 3), or smaller than a block; or an unknown luma.
  """
  images.check('NIQE', image)
  if luma not in LUMAS:
    raise ValueError(f'NIQE got an unknown luma {luma!r}; luma must be one of {", ".join(LUMAS)}')
  rows, columns = image.shape[0] // BLOCK, image.shape[1] // BLOCK
  if not rows * columns:
    raise ValueError(f'NIQE got an image of {image.shape[0]}x{image.shape[1]} pixels; a block is {BLOCK}x{BLOCK}')
  full, half, sharpness = _moments(image[: rows * BLOCK, : columns * BLOCK], luma=luma)
  features = [_features(np.asarray(moments, np.float64)) for moments in (full, half)]
  features = np.concatenate(features, axis=1)
  features[np.isnan(features).any(axis=1)] = np.nan
  return features, np.asarray(sharpness, np.float64)


@functools.partial(jax.jit, static_argnames='luma')
def _moments(image: jax.Array, *, luma: str) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Block moments (N, 5, 4) at full and at half size, and sharpness (N,)."""
  rgb = image.astype(jnp.float32)
  if luma == 'y':
    plane = rgb_to_y(rgb / 255.0)[..., 0]
  else:
    plane = 0.298936 * rgb[..., 0] + 0.587043 * rgb[..., 1] + 0.114021 * rgb[..., 2]
  # To the nearest, halves up as MATLAB does it.
  plane = jnp.floor(plane + 0.5)
  normalised, deviation = mscn(plane)
  sharpness = jnp.mean(_blocks(deviation, BLOCK), axis=(1, 2))
  half = mscn(halve(plane))[0]
  return _block_moments(_blocks(normalised, BLOCK)), _block_moments(_blocks(half, BLOCK // 2)), sharpness


def mscn(plane: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Mean-subtracted contrast-normalised coefficients (Eq. 1 to 3): (x - mu) / (sigma + 1).

  The window is a 7 x 7 Gaussian of deviation 7/6 with replicated borders. Mean and variance are summed from
  differences, not from squares: float32 keeps them exact where the image is nearly flat.

  Args:
    plane: (H, W) float32 in [0, 255].

  Returns:
    (H, W) coefficients and (H, W) local deviation sigma.
  """
  h, w = plane.shape
  line = np.exp(-0.5 * (np.arange(-3, 4) / (7 / 6)) ** 2)
  window = np.outer(line, line) / line.sum() ** 2
  padded = jnp.pad(plane, 3, mode='edge')
  taps = [(weight, padded[i : i + h, j : j + w]) for (i, j), weight in np.ndenumerate(window)]
  below_mean = sum(float(weight) * (tap - plane) for weight, tap in taps)
  mean = plane + below_mean
  deviation = jnp.sqrt(sum(float(weight) * jnp.square(tap - mean) for weight, tap in taps))
  return -below_mean / (deviation + 1.0), deviation


def halve(plane: jax.Array) -> jax.Array:
  """Half size as MATLAB's `imresize(plane, 0.5)`: antialiased bicubic, borders mirrored.

  The cubic of Keys (1981, a = -0.5), stretched by two, has eight taps at a distance of 0.5, 1.5, 2.5 and 3.5 pixels.

  Args:
    plane: (H, W), even sides.

  Returns:
    (H / 2, W / 2).
  """
  weights = np.array([-0.01171875, -0.03515625, 0.11328125, 0.43359375])
  weights = np.concatenate([weights, weights[::-1]])
  for axis in (0, 1):
    n = plane.shape[axis] // 2
    padded = jnp.pad(plane, [(3, 3) if i == axis else (0, 0) for i in (0, 1)], mode='symmetric')
    taps = [jax.lax.slice_in_dim(padded, i, i + 2 * n - 1, stride=2, axis=axis) for i in range(8)]
    plane = sum(float(weight) * tap for weight, tap in zip(weights, taps))
  return plane


def _blocks(plane: jax.Array, side: int) -> jax.Array:
  """(H, W) to (N, side, side)."""
  h, w = plane.shape
  return plane.reshape(h // side, side, w // side, side).swapaxes(1, 2).reshape(-1, side, side)


def _block_moments(blocks: jax.Array) -> jax.Array:
  """What the fits need of MSCN and of its four neighbour products: (N, s, s) to (N, 5, 4).

  The four are the mean square of the negative and of the positive values, the mean magnitude and the mean square.
  """
  found = []
  for x in (blocks, *(blocks * jnp.roll(blocks, shift, axis=(1, 2)) for shift in _SHIFTS)):
    square = x * x
    # NaN, and with it the block left out, where there are none.
    negative, positive = (jnp.mean(square, axis=(1, 2), where=sign) for sign in (x < 0, x > 0))
    found.append([negative, positive, jnp.mean(jnp.abs(x), axis=(1, 2)), jnp.mean(square, axis=(1, 2))])
  return jnp.stack([jnp.stack(moments, axis=-1) for moments in found], axis=1)


@functools.cache
def _shape_table() -> tuple[np.ndarray, np.ndarray]:
  """Shapes 0.2, 0.201, ... 10 and the rising ratio Gamma(2/a)^2 / (Gamma(1/a) Gamma(3/a)) of each."""
  shapes = np.arange(0.2, 10.001, 0.001)
  log = special.gammaln
  return shapes, np.exp(2.0 * log(2.0 / shapes) - log(1.0 / shapes) - log(3.0 / shapes))


def _features(moments: np.ndarray) -> np.ndarray:
  """(N, 5, 4) moments to (N, 18) features: shape and scale of MSCN; shape, mean, two scales of each product."""
  with np.errstate(invalid='ignore', divide='ignore'):
    left, right = np.sqrt(moments[..., 0]), np.sqrt(moments[..., 1])
    ratio = left / right
    target = moments[..., 2] ** 2 / moments[..., 3]
    target = target * (ratio**3 + 1.0) * (ratio + 1.0) / (ratio**2 + 1.0) ** 2
    shapes, table = _shape_table()
    place = np.clip(np.searchsorted(table, target), 1, len(table) - 1)
    nearer_before = target - table[place - 1] <= table[place] - target
    shape = shapes[place - nearer_before]
    scale = np.exp(0.5 * (special.gammaln(1.0 / shape) - special.gammaln(3.0 / shape)))
    left, right = left * scale, right * scale
    mean = (right - left) * np.exp(special.gammaln(2.0 / shape) - special.gammaln(1.0 / shape))
  features = [shape[:, 0], 0.5 * (left[:, 0] + right[:, 0])]
  for i in range(1, moments.shape[1]):
    features += [shape[:, i], mean[:, i], left[:, i], right[:, i]]
  return np.stack(features, axis=1)
