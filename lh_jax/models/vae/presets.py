"""The sizes of VAE, by name, and what follows from a size alone: the factor, and how far outputs see."""

from __future__ import annotations

import dataclasses

from lh_jax.models import layers


@dataclasses.dataclass(frozen=True)
class Preset:
  """One size of VAE. Channels and block counts run from the finest level to the coarsest.

  Attributes:
    stem: side of the space-to-depth stem (1: none).
    channels: channels of each level; each further level halves the resolution.
    encoder_blocks: residual blocks per level in the encoder.
    decoder_blocks: residual blocks per level in the decoder.
    latent_channels: C_z.
    kl_weight: lambda_KL of Eq. 2.
    norm: 'layer' (per pixel; exact tiling) or 'group' (4 groups over the image, as in the authors' earlier code).
    body: 'convolutional' or 'frequency', what the blocks are (see the package).
    attention_levels: of the body 'frequency', how many of the coarsest levels have attention after each block.
    linear_path: of the body 'convolutional', whether each cell of the latent also is a linear map of its pixels, and they
      of it, beside all else; see `convolutional.cosines`, at which both maps start.
    code_channels: of the body 'frequency', channels beside C_z, between the 1x1 convolutions at the latent and the
      rest; None is as many.
  """

  stem: int
  channels: tuple[int, ...]
  encoder_blocks: tuple[int, ...]
  decoder_blocks: tuple[int, ...]
  latent_channels: int
  kl_weight: float
  norm: str = 'layer'
  body: str = 'convolutional'
  linear_path: bool = False
  attention_levels: int = 0
  code_channels: int | None = None

  def __post_init__(self):
    if not len(self.channels) == len(self.encoder_blocks) == len(self.decoder_blocks):
      raise ValueError(
        f'vae.channels {self.channels}, vae.encoder_blocks {self.encoder_blocks} and vae.decoder_blocks '
        f'{self.decoder_blocks} must have one entry per level.'
      )
    if self.linear_path and self.body != 'convolutional':
      raise ValueError('vae.linear_path=True: a VAE of frequency-enhanced blocks has no linear path.')
    if self.body == 'frequency' and any(channels % (2 * layers.GROUPS) for channels in self.channels):
      raise ValueError(
        f'vae.channels {self.channels} must be multiples of {2 * layers.GROUPS} in a VAE of frequency-enhanced blocks, '
        f'which norm half of them in {layers.GROUPS} groups.'
      )

  @property
  def factor(self) -> int:
    """Down-sampling factor f between image and latent."""
    return self.stem * 2 ** (len(self.channels) - 1)

  @property
  def local(self) -> bool:
    """Whether every output depends on a bounded neighbourhood only, so that tiles are exact."""
    return self.body == 'convolutional' and self.norm == 'layer'

  @property
  def global_parts(self) -> str:
    """What takes in the whole image, in words; empty where the VAE is `local`."""
    if self.body == 'frequency':
      return 'the Fourier transforms, attention and group norms of vae.preset'
    return '' if self.local else 'vae.norm'

  @property
  def encoder_halo(self) -> int:
    """Cells on each side of a latent cell outside of which no pixel changes it: the receptive field, walked back from
    one cell (meaningless where the network is not `local`).
    """
    low = high = 0
    for level in reversed(range(len(self.channels))):
      low, high = low - 2 * self.encoder_blocks[level], high + 2 * self.encoder_blocks[level]
      if level:
        low, high = 2 * low, 2 * high + 2  # Down: 3 taps from 2i on
    low, high = (low - 1) * self.stem, (high + 2) * self.stem - 1
    return max(-(low // self.factor), high // self.factor)

  @property
  def decoder_halo(self) -> int:
    """Cells on each side of a latent cell outside of which no cell changes its pixels, found as `encoder_halo`."""
    side = self.factor // self.stem
    low, high = -1, side
    for level in range(len(self.channels)):
      low, high = low - 2 * self.decoder_blocks[level], high + 2 * self.decoder_blocks[level]
      if level < len(self.channels) - 1:
        low, high = (low - 1) // 2, (high + 1) // 2  # Up: the bilinear neighbours
    return max(1 - low, high + 1)


_LH = Preset(
  stem=2, channels=(48, 64, 64), encoder_blocks=(1, 1, 1), decoder_blocks=(2, 2, 1), latent_channels=32, kl_weight=1e-8
)
_LH_FE = Preset(
  stem=1,
  channels=(16, 32, 64, 64),
  encoder_blocks=(2, 2, 2, 2),
  decoder_blocks=(3, 3, 3, 3),
  latent_channels=32,
  kl_weight=1e-8,
  norm='group',
  body='frequency',
  attention_levels=2,
)
PRESETS = {
  'lh': _LH,
  # VAE2, the "reconstructing" VAE of the paper's Sec. 3: LH-VAE's body; what differs is how stage 1 trains it.
  'vae2': _LH,
  # VAE1, the "generalising" VAE: the same recipe down to f = 32.
  'vae1': Preset(
    stem=2,
    channels=(48, 64, 64, 64, 64),
    encoder_blocks=(1, 1, 1, 1, 1),
    decoder_blocks=(2, 2, 1, 1, 1),
    latent_channels=8,
    kl_weight=1e-4,
  ),
  # The stem-less twin of `lh`, kept for comparison, and the fastest one.
  'lh_conv': dataclasses.replace(
    _LH, stem=1, channels=(16, 32, 64, 64), encoder_blocks=(2, 1, 1, 1), decoder_blocks=(2, 2, 2, 1)
  ),
  'lh_fast': dataclasses.replace(_LH, stem=4, channels=(96, 64), encoder_blocks=(2, 1), decoder_blocks=(2, 1)),
  # The body of the authors' earlier VAE at LH-VAE's latent; and as it was published, for UHD-Processer.
  'lh_fe': _LH_FE,
  'uhd_processer': dataclasses.replace(_LH_FE, latent_channels=16, code_channels=4, kl_weight=1e-6),
  # For tests.
  'tiny': dataclasses.replace(
    _LH, stem=2, channels=(8, 8, 16), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1), latent_channels=8
  ),
  'tiny_fe': dataclasses.replace(
    _LH_FE,
    channels=(8, 8, 16),
    encoder_blocks=(1, 1, 1),
    decoder_blocks=(1, 1, 1),
    latent_channels=8,
    attention_levels=1,
  ),
}
