"""Protocols: what exactly is measured between a restored image and its reference, by name.

Published numbers differ by more than methods do because their scripts differ (luma or RGB, border, SSIM window, LPIPS
network and channel order), so each protocol here says what it computes, which code it reproduces and where it departs
from that. Contract: every protocol scores the uint8 pixels that are written to a file, gives PSNR and SSIM on luma
(BT.601, 16 to 235, not rounded) and on RGB, and the mean over images is that of the images' values. A metric whose
weights are not at hand is left out and the reason told: no number stands in for it.

Names and facts alone are here, without JAX, which takes seconds to start; `measure` measures.
"""

from __future__ import annotations

import dataclasses

# Height and width of the smallest image that every SSIM window fits into.
MIN_SIDE = 11
LPIPS = ('auto', 'none')
FID_KINDS = ('image', 'patch')


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
