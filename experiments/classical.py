"""Restoration without learning: what scikit-image, SciPy and a few lines offer for each task of the benchmark.

Contract: a method is a pure function (H, W, 3) uint8 RGB -> the same shape and dtype, with keyword parameters. A
candidate is a tuple of steps (method, parameters), applied one after the other; `candidates` lists a task's, `tuning`
chooses among them. To leave the image alone is no candidate: where every method makes it worse, that shows.

PyWavelets, which scikit-image's wavelet denoising needs, is no dependency of ours: without it that method is left out,
and `missing` says so; `dct`, the other method by thresholds, is always there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import functools
import importlib.util
import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import fft
from scipy import ndimage
from skimage import exposure
from skimage import restoration

from lh_jax.data import image_files
from lh_jax.ops import blur
from lh_jax.ops import light

Step = tuple[str, Mapping[str, Any]]
Candidate = tuple[Step, ...]
DCT_SIDE, DCT_STRIDE = 8, 2
DECONVOLUTION_BORDER = 32  # pixels mirrored around the image, as the Fourier transform takes it for periodic
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def _unit(image: np.ndarray) -> np.ndarray:
  return image.astype(np.float32) / np.float32(255)


def nl_means(image: np.ndarray, *, sigma: float, strength: float, patch: int = 5, distance: int = 6) -> np.ndarray:
  """Non-local means (Buades, Coll and Morel, CVPR 2005; fast mode: Darbon et al., ISBI 2008).

  Args:
    image: (H, W, 3) uint8.
    sigma: standard deviation of the noise, of 255.
    strength: filtering strength h over sigma.
    patch: side of what is compared, pixels.
    distance: how far similar patches are searched for, pixels.
  """
  options = {'patch_size': patch, 'patch_distance': distance, 'fast_mode': True, 'channel_axis': -1}
  deviation = sigma / 255
  return image_files.to_uint8(
    restoration.denoise_nl_means(_unit(image), h=strength * deviation, sigma=deviation, **options)
  )


def wavelet(image: np.ndarray, *, sigma: float) -> np.ndarray:
  """Soft wavelet thresholds in YCbCr, BayesShrink (Chang, Yu and Vetterli, IEEE TIP 2000); `sigma` of 255."""
  options = {'method': 'BayesShrink', 'mode': 'soft', 'convert2ycbcr': True, 'rescale_sigma': True, 'channel_axis': -1}
  return image_files.to_uint8(restoration.denoise_wavelet(_unit(image), sigma=sigma / 255, **options))


def total_variation(image: np.ndarray, *, weight: float) -> np.ndarray:
  """Total variation (Rudin, Osher and Fatemi, Physica D 1992) by Chambolle's algorithm (JMIV 2004)."""
  return image_files.to_uint8(restoration.denoise_tv_chambolle(_unit(image), weight=weight, channel_axis=-1))


def dct(image: np.ndarray, *, sigma: float, threshold: float) -> np.ndarray:
  """Hard thresholds on the DCT of overlapping blocks and of the colours (Yu and Sapiro, "DCT Image Denoising", IPOL 2011).

  Args:
    image: (H, W, 3) uint8.
    sigma: standard deviation of the noise, of 255.
    threshold: over sigma; that paper has 3.
  """
  height, width, _ = image.shape
  high, wide = (-(-length // DCT_SIDE) * DCT_SIDE + DCT_SIDE for length in (height, width))
  around = ((DCT_SIDE, high - height), (DCT_SIDE, wide - width), (0, 0))
  padded = np.pad(_unit(image), around, mode='symmetric')
  total = np.zeros_like(padded)
  grids = list(itertools.product(range(0, DCT_SIDE, DCT_STRIDE), repeat=2))
  for top, left in grids:
    view = (slice(top, top + high), slice(left, left + wide))
    blocks = padded[view].reshape(high // DCT_SIDE, DCT_SIDE, wide // DCT_SIDE, DCT_SIDE, 3)
    spectrum = fft.dctn(blocks, axes=(1, 3, 4), norm='ortho')
    spectrum *= np.abs(spectrum) > threshold * sigma / 255
    total[view] += fft.idctn(spectrum, axes=(1, 3, 4), norm='ortho').reshape(high, wide, 3)
  return image_files.to_uint8(total[DCT_SIDE:, DCT_SIDE:][:height, :width] / len(grids))


def _psf(shape: str, size: float) -> np.ndarray:
  """A point spread function: 'disk' of a radius, or 'gaussian' of a standard deviation, in pixels; sums to 1."""
  reach = int(np.ceil(size if shape == 'disk' else 3 * size))
  if shape == 'disk':
    return np.asarray(blur.disk_kernel(size, size=2 * reach + 1))
  line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / size) ** 2)
  return np.outer(line, line) / line.sum() ** 2


def _deconvolved(image: np.ndarray, method: Any) -> np.ndarray:
  """Applies `method` to every channel in linear light, where blur happens, with mirrored borders."""
  border = DECONVOLUTION_BORDER
  linear = np.asarray(light.srgb_to_linear(_unit(image)))
  linear = np.pad(linear, ((border, border), (border, border), (0, 0)), mode='symmetric')
  found = np.stack([method(linear[:, :, channel]) for channel in range(3)], axis=-1)
  return _displayed(found[border:-border, border:-border])


def _displayed(linear: np.ndarray) -> np.ndarray:
  return image_files.to_uint8(np.asarray(light.linear_to_srgb(jnp.clip(jnp.asarray(linear, jnp.float32), 0.0, 1.0))))


def wiener(image: np.ndarray, *, psf: str, size: float, balance: float) -> np.ndarray:
  """Wiener deconvolution with a Laplacian prior (Hunt, IEEE Trans. Computers 1973).

  Args:
    image: (H, W, 3) uint8.
    psf: 'disk' or 'gaussian'.
    size: radius or standard deviation, pixels.
    balance: weight of the prior.
  """
  kernel = _psf(psf, size)
  return _deconvolved(image, lambda plane: restoration.wiener(plane, kernel, balance, clip=False))


def richardson_lucy(image: np.ndarray, *, psf: str, size: float, iterations: int) -> np.ndarray:
  """Richardson-Lucy deconvolution (Richardson, JOSA 1972; Lucy, Astronomical Journal 1974); `psf`, `size` as `wiener`."""
  kernel = _psf(psf, size).astype(np.float32)
  return _deconvolved(image, lambda plane: restoration.richardson_lucy(plane, kernel, iterations, filter_epsilon=1e-6))


def unsharp(image: np.ndarray, *, radius: float, amount: float) -> np.ndarray:
  """Unsharp mask: adds `amount` times what a Gaussian of `radius` pixels takes away.

  `skimage.filters.unsharp_mask` of scikit-image 0.26 fills three rows only where channel_axis is negative.
  """
  x = _unit(image)
  return image_files.to_uint8(x + amount * (x - ndimage.gaussian_filter(x, (radius, radius, 0))))


def _guided(guide: np.ndarray, source: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
  """The guided filter (He, Sun and Tang, ECCV 2010, Eqs. 5 to 8) of planes (H, W)."""
  mean = functools.partial(ndimage.uniform_filter, size=2 * radius + 1)
  of_guide, of_source = mean(guide), mean(source)
  slope = (mean(guide * source) - of_guide * of_source) / (mean(guide * guide) - of_guide**2 + epsilon)
  return mean(slope) * guide + mean(of_source - slope * of_guide)


def guided(image: np.ndarray, *, radius: int, epsilon: float) -> np.ndarray:
  """Smoothing with kept edges: every channel by the guided filter, guided by itself."""
  planes = np.moveaxis(_unit(image), -1, 0)
  return image_files.to_uint8(np.stack([_guided(plane, plane, radius, epsilon) for plane in planes], axis=-1))


def dark_channel(image: np.ndarray, *, patch: int, omega: float, least: float = 0.1) -> np.ndarray:
  """Dehazing by the dark channel prior (He, Sun and Tang, CVPR 2009, TPAMI 2011), refined by the guided filter.

  The airlight is the mean of the pixels with the highest 0.1 percent of the dark channel.

  Args:
    image: (H, W, 3) uint8.
    patch: side of the local minimum, pixels.
    omega: share of the haze that is taken away.
    least: transmission below which the division stops, t0.
  """
  x = _unit(image)
  dark = ndimage.minimum_filter(x.min(axis=2), patch)
  count = max(1, dark.size // 1000)
  airlight = x.reshape(-1, 3)[np.argpartition(dark.ravel(), -count)[-count:]].mean(axis=0)
  airlight = np.maximum(airlight, 1 / 255)
  transmission = 1 - omega * ndimage.minimum_filter((x / airlight).min(axis=2), patch)
  transmission = _guided(x @ LUMA, transmission, 4 * patch, 1e-3)[:, :, None]
  return image_files.to_uint8((x - airlight) / np.maximum(transmission, least) + airlight)


def clahe(image: np.ndarray, *, clip: float) -> np.ndarray:
  """Contrast limited adaptive histogram equalisation of the value in HSV (Zuiderveld, Graphics Gems IV, 1994)."""
  return image_files.to_uint8(exposure.equalize_adapthist(image, clip_limit=clip))


def gamma(image: np.ndarray, *, power: float) -> np.ndarray:
  """A power of the display values."""
  return image_files.to_uint8(_unit(image) ** power)


def gain(image: np.ndarray, *, stops: float, power: float = 1.0) -> np.ndarray:
  """A power of the display values, then exposure by a number of stops, in linear light."""
  return _displayed(2.0**stops * np.asarray(light.srgb_to_linear(_unit(image) ** power)))


def mean_gamma(image: np.ndarray, *, target: float) -> np.ndarray:
  """The power that takes the mean luma to `target`: gamma correction adapted to the picture."""
  mean = np.clip(float((_unit(image) @ LUMA).mean()), 1 / 255, 254 / 255)
  return gamma(image, power=float(np.log(target) / np.log(mean)))


def key_exposure(image: np.ndarray, *, key: float) -> np.ndarray:
  """Exposure that takes the log-average of the light to `key` (Reinhard et al., SIGGRAPH 2002, Eqs. 1 and 2)."""
  average = np.exp(np.log(np.asarray(light.srgb_to_linear(_unit(image))) @ LUMA + 1e-4).mean())
  return gain(image, stops=float(np.log2(key / average)))


def stretch(image: np.ndarray, *, percent: float) -> np.ndarray:
  """Contrast stretched so that `percent` of the values end at each end of the range."""
  low, high = np.percentile(image, (percent, 100 - percent))
  return image_files.to_uint8((image - low) / max(high - low, 1.0))


def median(image: np.ndarray, *, size: int) -> np.ndarray:
  """The median of `size` x `size` pixels, channel by channel."""
  return ndimage.median_filter(image, (size, size, 1))


def opening(image: np.ndarray, *, size: int) -> np.ndarray:
  """Morphological opening (Serra, 1982): takes away what is bright and narrower than `size` pixels."""
  return ndimage.grey_opening(image, (size, size, 1))


def bilateral(image: np.ndarray, *, color: float, space: float) -> np.ndarray:
  """The bilateral filter (Tomasi and Manduchi, ICCV 1998); `color` of 1, `space` in pixels, standard deviations."""
  options = {'win_size': 2 * int(2 * space) + 1, 'sigma_color': color, 'sigma_spatial': space, 'channel_axis': -1}
  return image_files.to_uint8(restoration.denoise_bilateral(_unit(image), **options))


def gaussian(image: np.ndarray, *, sigma: float) -> np.ndarray:
  """A Gaussian of `sigma` pixels."""
  return image_files.to_uint8(ndimage.gaussian_filter(_unit(image), (sigma, sigma, 0)))


METHODS = {
  method.__name__: method
  for method in (nl_means, wavelet, total_variation, dct, wiener, richardson_lucy, unsharp, guided, dark_channel)
  + (clahe, gamma, gain, mean_gamma, key_exposure, stretch, median, opening, bilateral, gaussian)
}


def apply(candidate: Iterable[Step], image: np.ndarray) -> np.ndarray:
  """Applies the steps of a candidate to a (H, W, 3) uint8 image."""
  for name, parameters in candidate:
    image = METHODS[name](image, **parameters)
  return image


def missing() -> dict[str, str]:
  """Returns the methods that cannot be tried here, and why."""
  absent = importlib.util.find_spec('pywt') is None
  return {'wavelet': 'not tried: PyWavelets is not installed'} if absent else {}
