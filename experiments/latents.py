"""Array maths on latents that several figures share: DCT spectra, cosine similarity across degradations, cut-offs.

Contract: latents are float (N, h, w, C) NumPy arrays, one entry of N for each image; everything is computed in float64
on the host. DCT means the orthonormal two-dimensional DCT-II of each channel (scipy), so energies and inner products
are those of the latent itself. Radial frequency is in units of the latent's own Nyquist frequency: 1 along an axis, up
to sqrt(2) in the corner; a VAE with a larger factor f has a lower Nyquist frequency in cycles per pixel.
"""

from __future__ import annotations

import itertools
from typing import Mapping

import numpy as np
import scipy.fft

EPS = 1e-12


def dct(latents: np.ndarray) -> np.ndarray:
  """Returns the orthonormal DCT-II of each channel, (N, h, w, C) as the latents."""
  return scipy.fft.dctn(_checked(latents), axes=(1, 2), norm='ortho')


def inverse_dct(spectra: np.ndarray) -> np.ndarray:
  """Returns the latents whose `dct` is `spectra`."""
  return scipy.fft.idctn(_checked(spectra), axes=(1, 2), norm='ortho')


def radius(height: int, width: int) -> np.ndarray:
  """Radial frequency of each DCT coefficient, (height, width), 0 at the mean; see the module's docstring."""
  return np.hypot(np.arange(height)[:, None] / height, np.arange(width)[None, :] / width)


def bands(height: int, width: int, count: int) -> np.ndarray:
  """Which of `count` equally wide radial bands each coefficient belongs to, (height, width) integers.

  Raises:
    ValueError: fewer than one band.
  """
  if count < 1:
    raise ValueError(f'A spectrum needs at least one radial band, got {count}.')
  return np.minimum((radius(height, width) / np.sqrt(2.0) * count).astype(int), count - 1)


def centres(count: int) -> np.ndarray:
  """The middle of each of `count` bands, in units of the Nyquist frequency."""
  return (np.arange(count) + 0.5) * np.sqrt(2.0) / count


def spectrum(latents: np.ndarray, *, count: int) -> np.ndarray:
  """Mean energy of a DCT coefficient in each radial band, relative to that of all coefficients.

  White noise has 1 in every band, whatever the scale and the size of the latent. The mean of each channel of an image
  (the DC coefficient) is left out: it is the offset of the latent, not a frequency.

  Args:
    latents: (N, h, w, C).
    count: number of bands.

  Returns:
    (count,); NaN for a band that holds no coefficient of so small a latent.
  """
  energy = _energy_without_mean(latents)
  which = bands(*energy.shape, count).ravel()
  coefficients = np.bincount(which[1:], minlength=count)  # without DC, the first
  mean = np.bincount(which, energy.ravel(), minlength=count) / np.where(coefficients, coefficients, np.nan)
  return mean * (energy.size - 1) / max(energy.sum(), EPS)


def high_frequency_share(latents: np.ndarray, *, above: float = 0.5) -> float:
  """Share of the energy, the mean of each channel aside, that lies above a radial frequency.

  Args:
    latents: (N, h, w, C).
    above: in units of the Nyquist frequency.

  Returns:
    In [0, 1]; 0 for constant latents.
  """
  energy = _energy_without_mean(latents)
  high = energy[radius(*energy.shape) > above].sum()
  return float(high / max(energy.sum(), EPS))


def on_grid(latents: np.ndarray, height: int, width: int) -> np.ndarray:
  """Returns the latents on a coarser grid, (N, height, width, C): their lowest DCT frequencies along both axes.

  What is left of latents of different VAEs then covers the same frequencies of the image.

  Raises:
    ValueError: the grid is finer than theirs.
  """
  spectra = dct(latents)
  if height > spectra.shape[1] or width > spectra.shape[2]:
    raise ValueError(f'A grid of {height}x{width} is finer than that of the latents {spectra.shape}.')
  return inverse_dct(spectra[:, :height, :width])


def low_pass(latents: np.ndarray, *, ratio: float) -> np.ndarray:
  """Zeroes the highest DCT frequencies (the cut-off of Supp. Fig. 6).

  Args:
    latents: (N, h, w, C).
    ratio: which share of the coefficients goes, in [0, 1); those of equal radial frequency go or stay together, so
      that up to one ring more may stay.

  Returns:
    (N, h, w, C); the mean always stays.

  Raises:
    ValueError: ratio outside [0, 1).
  """
  if not 0.0 <= ratio < 1.0:
    raise ValueError(f'The cut-off ratio must lie in [0, 1), got {ratio}.')
  spectra = dct(latents)
  radii = radius(*spectra.shape[1:3])
  kept = np.sort(radii, axis=None)[max(round((1.0 - ratio) * radii.size), 1) - 1]
  return inverse_dct(spectra * (radii <= kept)[None, :, :, None])


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Cosine of the angle between corresponding entries, all axes but the first flattened: (N, ...) twice to (N,)."""
  a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (a, b))
  return np.sum(a * b, axis=1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), EPS)


def cross_degradation_similarity(by_task: Mapping[str, np.ndarray]) -> float:
  """CDCS (Fig. 2b): mean over images and pairs of degradations of the cosine between the latents of one image.

  Args:
    by_task: {degradation: latents of the same images in the same order}.

  Raises:
    ValueError: fewer than two degradations.
  """
  pairs = [cosine(by_task[a], by_task[b]) for a, b in _pairs(by_task)]
  return float(np.mean(pairs))


def cross_degradation_bands(by_task: Mapping[str, np.ndarray], *, count: int) -> np.ndarray:
  """CDCS of each radial DCT band: the cosine between the coefficients of one band, averaged as the whole.

  Args:
    by_task: as for `cross_degradation_similarity`.
    count: number of bands.

  Returns:
    (count,); NaN for a band that holds no coefficient of so small a latent.
  """
  pairs = _pairs(by_task)
  spectra = {task: dct(latents) for task, latents in by_task.items()}
  which = bands(*next(iter(spectra.values())).shape[1:3], count)
  found = [
    np.mean([cosine(spectra[a][:, which == band], spectra[b][:, which == band]) for a, b in pairs])
    if np.any(which == band)
    else np.nan
    for band in range(count)
  ]
  return np.array(found)


def content_similarity(latents: np.ndarray) -> float:
  """Mean cosine between the latents of different images: what CDCS has to be compared with.

  A latent that says nothing about its image has a CDCS of 1, and this is 1 too.

  Args:
    latents: (N, h, w, C) of N different images of one size.

  Raises:
    ValueError: fewer than two images.
  """
  if len(latents) < 2:
    raise ValueError(f'The similarity of different images needs at least two images, got {len(latents)}.')
  first, second = np.triu_indices(len(latents), k=1)
  return float(np.mean(cosine(latents[first], latents[second])))


def pooled(latents: np.ndarray) -> np.ndarray:
  """Mean over the positions of each latent, (N, C): what Fig. 2a embeds in the plane."""
  return _checked(latents).mean(axis=(1, 2))


def to_picture(values: np.ndarray, *, clip: float = 1.0) -> np.ndarray:
  """Scales (h, w) or (h, w, 3) to [0, 1], each channel from its `clip`-th to its (100 - clip)-th percentile."""
  low, high = np.percentile(values, [clip, 100.0 - clip], axis=(0, 1))
  return np.clip((values - low) / np.maximum(high - low, EPS), 0.0, 1.0)


def _checked(latents: np.ndarray) -> np.ndarray:
  if np.ndim(latents) != 4:
    raise ValueError(f'Latents are (N, h, w, C) arrays, got shape {np.shape(latents)}.')
  return np.asarray(latents, np.float64)


def _energy_without_mean(latents: np.ndarray) -> np.ndarray:
  """Energy of each DCT coefficient over images and channels, (h, w), zero at DC."""
  energy = np.square(dct(latents)).sum(axis=(0, 3))
  energy[0, 0] = 0.0
  return energy


def _pairs(by_task: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
  if len(by_task) < 2:
    raise ValueError(f'Similarity across degradations needs at least two of them, got {sorted(by_task)}.')
  return list(itertools.combinations(by_task, 2))
