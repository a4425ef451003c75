"""Protocols: what exactly is measured between a restored image and its reference, by name.

Published numbers differ by more than methods do because their scripts differ (luma or RGB, border, SSIM window, LPIPS
network and channel order), so each protocol here says what it computes, which code it reproduces and where it departs
from that. Contract: every protocol scores the uint8 pixels that are written to a file, gives PSNR and SSIM on luma
(BT.601, 16 to 235, not rounded) and on RGB, and the mean over images is that of the images' values. A metric whose
weights are not at hand is left out and the reason told: no number stands in for it.

Names and facts are here without JAX, which takes seconds to start; `score` starts it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import functools

import numpy as np

# Height and width of the smallest image that every SSIM window fits into.
MIN_SIDE = 11
LPIPS = ('auto', 'none')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
  """One way to measure.

  Attributes:
    name: in `PROTOCOLS`.
    version: raised whenever a value of this protocol changes.
    reproduces: whose numbers it is comparable with.
    departs: where it differs from that code; empty where it does not.
    colour: 'y' or 'rgb', what the numbers of those papers are on. Both are always computed.
    quantised: the pixels that are measured.
    multiple: images are first cropped around their middle to a multiple of these pixels.
    border: pixels that PSNR and SSIM leave out on each side.
    ssim_window: 'gaussian' (11 x 11, sigma 1.5, where it fits), 'gaussian_full' (the same, borders replicated) or
      'uniform' (7 x 7, sample covariance).
    ssim_side: images are first averaged over blocks until their smaller side has about these pixels, for SSIM alone; 0
      leaves them.
    lpips: networks of the perceptual distance: 'alex', 'vgg'.
    lpips_channels: 'rgb', or 'bgr' as some scripts feed them.
  """

  name: str
  version: int = 1
  reproduces: str
  departs: str = ''
  colour: str
  quantised: str = 'uint8, rounded half up'
  multiple: int = 1
  border: int = 0
  ssim_window: str = 'gaussian'
  ssim_side: int = 0
  lpips: tuple[str, ...] = ('alex',)
  lpips_channels: str = 'rgb'

  @property
  def metrics(self) -> tuple[str, ...]:
    """The names of its values, those of its colour first."""
    colours = ('y', 'rgb') if self.colour == 'y' else ('rgb', 'y')
    similarity = [f'{metric}_{colour}' for colour in colours for metric in ('psnr', 'ssim')]
    return (*similarity, *(f'lpips_{net}' for net in self.lpips), 'ciede2000')

  @property
  def headline(self) -> str:
    """The name of the value that images are ranked by: PSNR in its colour."""
    return f'psnr_{self.colour}'


_UHD = 'calculate_psnr_ssim.py of UHD-processer, DreamUHD and UHDDIP'
_FLOATS = 'that code scores floating-point results, before they become a file'

PROTOCOLS = {
  protocol.name: protocol
  for protocol in (
    Protocol(
      name='uhd',
      reproduces=f'PSNR and SSIM of {_UHD}: the UHD restoration papers',
      departs='LPIPS is on RGB; that script feeds it BGR (see uhd_bgr_lpips)',
      colour='y',
    ),
    Protocol(
      name='uhd_bgr_lpips',
      reproduces=f'PSNR, SSIM and LPIPS of {_UHD}, channels of LPIPS reversed as there; only for published LPIPS values',
      colour='y',
      lpips_channels='bgr',
    ),
    Protocol(
      name='aio',
      reproduces='PromptIR and AdaIR (the all-in-one line after AirNet): RGB, scikit-image defaults, crop to 16',
      departs=f'{_FLOATS}; it has no LPIPS',
      colour='rgb',
      multiple=16,
      ssim_window='uniform',
    ),
    Protocol(
      name='rgb',
      reproduces='scikit-image: peak_signal_noise_ratio, and structural_similarity with gaussian_weights, sigma 1.5 and '
      'population covariance, on 8-bit RGB',
      colour='rgb',
      lpips=('alex', 'vgg'),
    ),
    Protocol(
      name='uhdformer',
      reproduces='inference_uhdformer.py of UHDformer: luma, one pixel of border left out, SSIM over the full map',
      colour='y',
      border=1,
      ssim_window='gaussian_full',
    ),
    Protocol(
      name='dehaze_pooled',
      reproduces='SFHformer and DehazeFormer: RGB, SSIM of images averaged down to about 256 pixels',
      departs=f'{_FLOATS}; it has no LPIPS',
      colour='rgb',
      ssim_side=256,
    ),
  )
}
DEFAULT = 'uhd'


def get(name: str) -> Protocol:
  """Returns the protocol called `name`.

  Raises:
    ValueError: there is none; the known ones are listed.
  """
  if name not in PROTOCOLS:
    raise ValueError(f'Unknown protocol {name!r}; known: {", ".join(PROTOCOLS)}.')
  return PROTOCOLS[name]


Distance = Callable[[np.ndarray, np.ndarray], float]


def load_lpips(protocol: Protocol, wanted: str = 'auto') -> tuple[dict[str, Distance], dict[str, str]]:
  """Loads the networks of a protocol's LPIPS as far as their weights are at hand.

  Args:
    protocol: the protocol.
    wanted: 'auto', or 'none' to leave LPIPS out.

  Returns:
    The distances by network, for `score`; and by name of a metric, why it is not computed.

  Raises:
    ValueError: `wanted` is something else, or a file of weights is damaged.
  """
  if wanted not in LPIPS:
    raise ValueError(f'lpips is {wanted!r}; it must be one of {", ".join(LPIPS)}.')
  if wanted == 'none':
    return {}, {f'lpips_{net}': 'not computed: left out (lpips none)' for net in protocol.lpips}
  from lh_jax import metrics

  found, missing = {}, {}
  for net in protocol.lpips:
    try:
      found[net] = metrics.load_lpips(net)
    except FileNotFoundError:
      missing[f'lpips_{net}'] = f'not computed: run python -m lh_jax.convert lpips_{net}'
  return found, missing


def score(
  protocol: Protocol, restored: np.ndarray, reference: np.ndarray, *, lpips: Mapping[str, Distance] | None = None
) -> dict[str, float]:
  """Scores one image.

  Args:
    protocol: what is measured.
    restored: (H, W, 3) uint8 RGB.
    reference: the same shape.
    lpips: distances by network, from `load_lpips`; without one, its value is left out.

  Returns:
    The values by the names of `Protocol.metrics`; PSNR (dB) of equal images is infinite.

  Raises:
    ValueError: not such images, different shapes, or too small for the protocol.
  """
  for name, image in (('restored', restored), ('reference', reference)):
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
      raise ValueError(f'The {name} image is {image.dtype} {image.shape}; a protocol scores uint8 (H, W, 3).')
  if restored.shape != reference.shape:
    raise ValueError(f'The restored image has shape {restored.shape}, its reference {reference.shape}; never resized.')
  restored, reference = (_middle(image, protocol.multiple) for image in (restored, reference))
  if min(restored.shape[:2]) < MIN_SIDE + 2 * protocol.border:
    raise ValueError(
      f'Protocol {protocol.name} needs at least {MIN_SIDE + 2 * protocol.border} pixels a side, got '
      f'{restored.shape[0]}x{restored.shape[1]} (height x width) after its crop to a multiple of {protocol.multiple}.'
    )
  from lh_jax import metrics

  measured = _similarity()(
    restored, reference, border=protocol.border, window=protocol.ssim_window, side=protocol.ssim_side
  )
  values = {name: float(value) for name, value in measured.items()}
  values['ciede2000'] = float(metrics.ciede2000(restored, reference))
  if lpips:
    order = slice(None, None, -1 if protocol.lpips_channels == 'bgr' else 1)
    fed = [np.ascontiguousarray(image[:, :, order]) for image in (restored, reference)]
    values |= {f'lpips_{net}': float(lpips[net](*fed)) for net in protocol.lpips if net in lpips}
  return {name: values[name] for name in protocol.metrics if name in values}


def _middle(image: np.ndarray, multiple: int) -> np.ndarray:
  for axis, side in enumerate(image.shape[:2]):
    kept = side // multiple * multiple
    first = (side - kept) // 2
    image = image[(slice(None),) * axis + (slice(first, first + kept),)]
  return image


@functools.cache
def _similarity() -> Callable[..., dict[str, object]]:
  """The compiled part of `score`: PSNR and SSIM on luma and RGB."""
  import jax
  import jax.numpy as jnp

  from lh_jax import metrics
  from lh_jax.ops import color

  @functools.partial(jax.jit, static_argnames=('border', 'window', 'side'))
  def similarity(restored, reference, *, border: int, window: str, side: int):
    height, width, _ = restored.shape
    rgb = [
      image[None, border : height - border, border : width - border].astype(jnp.float32)
      for image in (restored, reference)
    ]
    found = {}
    for colour, pair in (('y', [color.rgb_to_y(image / 255.0) for image in rgb]), ('rgb', rgb)):
      found[f'psnr_{colour}'] = metrics.psnr(*pair, max_value=255.0)[0]
      if side:
        pair = [_averaged(image, side) for image in pair]
      found[f'ssim_{colour}'] = metrics.ssim(*pair, max_value=255.0, window=window)[0]
    return found

  def _averaged(image, side):
    # PyTorch's adaptive average pooling, as a product with a matrix for each axis.
    ratio = max(1, round(min(image.shape[1:3]) / side))
    rows, columns = (jnp.asarray(pooling_weights(length, length // ratio)) for length in image.shape[1:3])
    return jnp.einsum('ih,bhwc,jw->bijc', rows, image, columns, precision='highest')

  return similarity


def pooling_weights(length: int, cells: int) -> np.ndarray:
  """Returns the (cells, length) float32 matrix of PyTorch's adaptive average pooling along one axis.

  Cell i is the mean from floor(i length / cells) to ceil((i + 1) length / cells), so that cells may overlap.
  """
  weights = np.zeros((cells, length), np.float32)
  for cell in range(cells):
    first, last = cell * length // cells, -(-(cell + 1) * length // cells)
    weights[cell, first:last] = 1.0 / (last - first)
  return weights
