"""The high-frequency operator HF of Eqs. 8 and 9: an ideal radial high-pass filter on images.

Linear, so HF(a) - HF(b) = HF(a - b), and it always removes the mean. The paper gives neither filter nor cut-off; the
authors' release masks the centred FFT by radius, with the ratio as a parameter.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from lh_jax.ops import fourier


def radius(height: int, width: int) -> np.ndarray:
  """Radial frequency of each rfft2 bin, (height, width // 2 + 1), in units of the Nyquist frequency (1 along an axis,
  up to sqrt(2) in the corner).
  """
  vertical = np.fft.fftfreq(height)[:, None]
  horizontal = np.fft.rfftfreq(width)[None, :]
  return np.sqrt(vertical**2 + horizontal**2) / 0.5


def high_pass(images: jax.Array, *, cutoff: float) -> jax.Array:
  """Keeps the frequencies above `cutoff`.

  Args:
    images: (B, H, W, C), any range; computed in float32.
    cutoff: in (0, 1], as a fraction of the Nyquist frequency.

  Returns:
    (B, H, W, C) float32, zero mean.

  Raises:
    ValueError: cutoff outside (0, 1].
  """
  if not 0.0 < cutoff <= 1.0:
    raise ValueError(f'losses.hf_cutoff must lie in (0, 1], got {cutoff}.')
  height, width = images.shape[1:3]
  mask = (radius(height, width) > cutoff).astype(np.float32)[None, None]
  # Transforms want the pixels innermost.
  spectrum = fourier.rfft2(images.astype(jnp.float32).transpose(0, 3, 1, 2))
  return fourier.irfft2(spectrum * mask, (height, width)).transpose(0, 2, 3, 1)
