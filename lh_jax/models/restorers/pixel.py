"""Published restorers of images: the networks of the latent restorers on pixels, in their published sizes.

Their weights are converted by `python -m lh_jax.convert NAME`; `lh_jax.baselines` runs them. NAFNet's for blur (GoPro)
and noise (SIDD) differ in their blocks; at width 32 the former has the 17.11 M parameters of its paper. Restormer's for
denoising have norms without bias. SFHformer's paper has the sizes t, s, m and l (7.61 M parameters), but the authors'
checkpoints are of other variants: those for haze and motion blur are here, that for low light is a network of its own
and is not. The authors run the one for motion blur on overlapping patches of 128 pixels, and NAFNet's for GoPro and
REDS with local pooling; here both see the whole image, and other numbers than the published ones are to be expected.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lh_jax.models import restorers

_GOPRO = (1, 1, 1, 28, 1, 1, 1, 1, 1)
_SIDD = (2, 2, 4, 8, 12, 2, 2, 2, 2)


def _nafnet(width: int, blocks: tuple[int, ...]) -> dict[str, Any]:
  return {'name': 'nafnet', 'width': width, 'blocks': blocks, 'padding': 'zero'}


def _restormer(norm: str) -> dict[str, Any]:
  size = {'width': 48, 'blocks': (4, 6, 6, 8), 'heads': (1, 2, 4, 8), 'refinement': 4}
  return {'name': 'restormer', **size, 'norm': norm, 'padding': 'reflect'}


def _sfhformer(width: int, blocks: tuple[int, ...], **options: Any) -> dict[str, Any]:
  dims = (width, 2 * width, 4 * width, 2 * width, width)
  return {'name': 'sfhformer', 'dims': dims, 'blocks': blocks, 'padding': 'reflect', **options}


# Name -> options of `restorers.build`.
NETWORKS: dict[str, dict[str, Any]] = {
  'nafnet_gopro_width32': _nafnet(32, _GOPRO),
  'nafnet_gopro_width64': _nafnet(64, _GOPRO),
  'nafnet_reds_width64': _nafnet(64, _GOPRO),
  'nafnet_sidd_width32': _nafnet(32, _SIDD),
  'nafnet_sidd_width64': _nafnet(64, _SIDD),
  'restormer_deraining': _restormer('layer'),
  'restormer_motion_deblurring': _restormer('layer'),
  'restormer_single_image_defocus_deblurring': _restormer('layer'),
  'restormer_real_denoising': _restormer('bias_free'),
  'restormer_gaussian_color_denoising_blind': _restormer('bias_free'),
  'restormer_gaussian_color_denoising_sigma15': _restormer('bias_free'),
  'restormer_gaussian_color_denoising_sigma25': _restormer('bias_free'),
  'restormer_gaussian_color_denoising_sigma50': _restormer('bias_free'),
  'sfhformer_t': _sfhformer(32, (1, 1, 2, 1, 1)),
  'sfhformer_s': _sfhformer(32, (2, 2, 4, 2, 2)),
  'sfhformer_m': _sfhformer(32, (4, 4, 8, 4, 4)),
  'sfhformer_l': _sfhformer(32, (6, 6, 10, 6, 6)),
  # The authors' test for indoor scenes leaves the Fourier unit's norm out.
  'sfhformer_haze_its': _sfhformer(32, (4, 6, 10, 6, 4), wide=False, fourier_norm='none'),
  'sfhformer_haze_ots': _sfhformer(32, (4, 6, 10, 6, 4), wide=False),
  'sfhformer_motion_blur': _sfhformer(64, (6, 6, 12, 6, 6), wide=False),
}


def build(name: str, *, dtype: Any = jnp.float32) -> nn.Module:
  """Builds a published network.

  Args:
    name: key of `NETWORKS`.
    dtype: of the activations.

  Returns:
    A module as from `restorers.build`, on images (B, H, W, 3) in [0, 1] of any size.

  Raises:
    ValueError: unknown name.
  """
  if name not in NETWORKS:
    raise ValueError(f'unknown pixel-space network {name!r}; known networks: {", ".join(NETWORKS)}')
  return restorers.build(**NETWORKS[name], channels=3, dtype=dtype)


def abstract_variables(module: nn.Module) -> dict[str, Any]:
  """Returns the shapes and dtypes of a network's variables: 'params' and, with batch norms, 'batch_stats'."""
  image = jnp.zeros((1, module.multiple, module.multiple, module.channels))
  return jax.eval_shape(lambda key: module.init(key, image, train=False), jax.random.key(0))
