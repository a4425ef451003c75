"""Makes the committed values of the frequency-enhanced VAE with the authors' public code, which stays where it is.

Run `LH_JAX_UHD_PROCESSER=CHECKOUT python tests/parity/make_frequency_vae_golden.py` in an environment with torch and
einops, where CHECKOUT is a copy of https://github.com/lyd-2022/UHD-processer (the committed file: its newest commit of
2025, torch 2.13.0, CPU). It writes `tests/fixtures/frequency_vae_golden.npz`: names and shapes of the tensors of a tiny
VAE, and what that computes with `weights(...)` from `image(...)` and `latent(...)`:
- `names`, `shapes`: tensor names, and their shapes as words such as '8x3x3x3'.
- `<H>x<W>/moments`, `<H>x<W>/decoded`, and `<H>x<W>/<module>`, the result of every block, of attention and of every
  change of resolution, sampled: every seventh value of the flattened (B, H, W, C) array.

FourierUp takes the angle of every frequency. That of one which is its own opposite is 0 or pi, but the transform of
torch leaves a rounding error in its imaginary part at some sizes, and the angle is pi or -pi by chance: `exact_angles`
makes it pi, as ours is.

The class of the VAE is not in the public code; its encoder and decoder are (`encoder_3.py`), and a configuration beside
the published weights names its blocks (`Res_four9`). `VAE` joins them as that configuration says.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import sys
import types
import zlib

import numpy as np

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / 'fixtures'
VARIABLE = 'LH_JAX_UHD_PROCESSER'
FILES = ('fourmer', 'restormer', 'Fourier_Upsampling', 'encoder_3', 'Resblock/Res_four')
# The tiny form: three levels, of which the last has attention; odd sizes at the coarsest.
TINY = dict(
  ch=8, ch_mult=(1, 1, 2), num_res_blocks=1, attn_resolutions=(8,), resolution=32, z_channels=8, embed_channels=8
)
SIZES = ((16, 16), (12, 20))
STRIDE = 7


def image(size: tuple[int, int]) -> np.ndarray:
  """Test image, (1, H, W, 3) float32; RandomState's stream is frozen by NumPy's compatibility policy."""
  return np.random.RandomState(0).uniform(size=(1, *size, 3)).astype(np.float32)


def latent(size: tuple[int, int], channels: int) -> np.ndarray:
  """Test latent, (1, h, w, channels) float32."""
  return np.random.RandomState(1).normal(size=(1, *size, channels)).astype(np.float32)


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
  """A random array for each name, which depends on nothing but name and shape."""
  found = {}
  for name, shape in shapes.items():
    noise = np.random.RandomState(zlib.crc32(name.encode())).normal(size=shape)
    if len(shape) == 4:
      value = noise * np.prod(shape[1:]) ** -0.5
    else:
      value = 0.1 * noise + (name.endswith('weight') or name.endswith('temperature'))
    found[name] = value.astype(np.float32)
  return found


def _package(name: str, **members) -> types.ModuleType:
  module = types.ModuleType(name)
  module.__path__ = []
  module.__dict__.update(members)
  return module


def load(checkout: str | os.PathLike[str]) -> dict[str, types.ModuleType]:
  """Runs the few files that the VAE needs, without the package around them, whose imports need far more.

  Args:
    checkout: folder that holds `basicsr`.

  Returns:
    File name without its ending -> module.
  """
  folder = pathlib.Path(checkout) / 'basicsr' / 'archs'
  missing = [file for file in FILES if not (folder / f'{file}.py').is_file()]
  if missing:
    raise FileNotFoundError(f'{folder} has no {", ".join(missing)}: set {VARIABLE} to a checkout of UHD-processer.')
  importlib.import_module('torch')
  # Names that the files import and the VAE does not use.
  stubs = {
    'torchvision': _package('torchvision'),
    'torchvision.models': _package('torchvision.models', vgg19=None),
    'torchvision.transforms': _package('torchvision.transforms'),
    'basicsr': _package('basicsr'),
    'basicsr.archs': _package('basicsr.archs'),
    'basicsr.utils': _package('basicsr.utils'),
    'basicsr.utils.vae_util': _package('basicsr.utils.vae_util', instantiate_from_config=None),
    'basicsr.utils.modules': _package('basicsr.utils.modules'),
    'basicsr.utils.modules.attention': _package('basicsr.utils.modules.attention', LinearAttention=object),
  }
  before, path = {name: sys.modules.get(name) for name in stubs}, list(sys.path)
  found = {}
  try:
    sys.modules.update(stubs)
    for file in FILES:
      name = f'basicsr.archs.{file.split("/")[-1]}'
      spec = importlib.util.spec_from_file_location(name, folder / f'{file}.py')
      module = sys.modules[name] = found[file.split('/')[-1]] = importlib.util.module_from_spec(spec)
      spec.loader.exec_module(module)
  finally:
    sys.path[:] = path
    for name in [name for name in sys.modules if name.partition('.')[0] in ('basicsr', 'torchvision')]:
      del sys.modules[name]
    sys.modules.update({name: module for name, module in before.items() if module is not None})
  return found


def vae(modules: dict[str, types.ModuleType], *, embed_channels: int, **options):
  """The authors' encoder and decoder with their frequency-enhanced block, joined as their configuration says.

  Args:
    modules: from `load`.
    embed_channels: of the latent.
    **options: `ddconfig` of the configuration.

  Returns:
    A torch module with the weights of `weights`; encode(images) and decode(z) take and give NCHW.
  """
  import torch

  code, block = modules['encoder_3'], modules['Res_four'].Res_four9

  class Block(block):
    def __init__(self, *, in_channels, out_channels, temb_channels, dropout):
      super().__init__(in_channels=in_channels, out_channels=out_channels, dropout=dropout)

    def forward(self, x, temb):
      return super().forward(x)

  class VAE(torch.nn.Module):
    def __init__(self):
      super().__init__()
      code.ResnetBlock = Block
      fields = options | {'in_channels': 3, 'out_ch': 3, 'attn_type': 'restormer', 'freup_type': 'pad'}
      self.encoder, self.decoder = code.Encoder(**fields), code.Decoder(**fields)
      channels = options['z_channels']
      self.quant_conv = torch.nn.Conv2d(2 * channels, 2 * embed_channels, 1)
      self.post_quant_conv = torch.nn.Conv2d(embed_channels, channels, 1)

    def encode(self, images):
      return self.quant_conv(self.encoder(images))

    def decode(self, z):
      return self.decoder(self.post_quant_conv(z))

  with open(os.devnull, 'w') as nothing, contextlib.redirect_stdout(nothing):
    model = VAE()
  values = weights({name: tuple(value.shape) for name, value in model.state_dict().items()})
  model.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})
  return model.eval()


def ours(name: str) -> str:
  """Our name of one of their modules: 'encoder.down.0.block.1' -> 'encoder/level0/block1'."""
  words = name.split('.')
  if words[1] == 'mid':
    return f'{words[0]}/middle/{ {"block_1": "block0", "attn_1": "attention", "block_2": "block1"}[words[2]] }'
  if words[-1] in ('downsample', 'upsample'):
    return f'{words[0]}/down{int(words[2]) + 1}' if words[-1] == 'downsample' else f'{words[0]}/up{words[2]}'
  return f'{words[0]}/level{words[2]}/{ {"block": "block", "attn": "attention"}[words[3]] }{words[4]}'


@contextlib.contextmanager
def exact_angles():
  """Lets `torch.fft.fft2` give frequencies that are their own opposites the imaginary part that they have: zero."""
  import torch

  transform = torch.fft.fft2

  def exact(x):
    plane = transform(x)
    rows, columns = (range(0, side, side // 2) if side % 2 == 0 else (0,) for side in x.shape[-2:])
    for i in rows:
      for j in columns:
        plane[..., i, j] = plane[..., i, j].real.to(plane.dtype)
    return plane

  torch.fft.fft2 = exact
  try:
    yield
  finally:
    torch.fft.fft2 = transform


def run(model, size: tuple[int, int], *, factor: int) -> dict[str, np.ndarray]:
  """Moments, decoded image, and the result of every block by our name, all (B, H, W, C)."""
  import torch

  found, hooks = {}, []

  def keep(name: str):
    def hook(module, arguments, result):
      found[name] = result.permute(0, 2, 3, 1).contiguous().numpy()

    return hook

  for name, module in model.named_modules():
    kind = type(module).__name__
    if kind in ('Block', 'TransformerBlock', 'Downsample', 'fresadd'):
      hooks.append(module.register_forward_hook(keep(ours(name))))
  cells = tuple(side // factor for side in size)
  with torch.no_grad():
    for name, function, argument in (
      ('moments', model.encode, image(size)),
      ('decoded', model.decode, latent(cells, model.post_quant_conv.in_channels)),
    ):
      result = function(torch.from_numpy(argument).permute(0, 3, 1, 2))
      found[name] = result.permute(0, 2, 3, 1).contiguous().numpy()
  for hook in hooks:
    hook.remove()
  return found


def golden(checkout: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """What the fixture holds."""
  model = vae(load(checkout), **TINY)
  state = model.state_dict()
  values = {
    'names': np.array(list(state)),
    'shapes': np.array(['x'.join(map(str, value.shape)) for value in state.values()]),
  }
  for size in SIZES:
    with exact_angles():
      found = run(model, size, factor=4)
    for name, array in found.items():
      whole = name in ('moments', 'decoded')
      values[f'{size[0]}x{size[1]}/{name}'] = array if whole else array.reshape(-1)[::STRIDE]
  return values


if __name__ == '__main__':
  np.savez_compressed(FIXTURES / 'frequency_vae_golden.npz', **golden(os.environ[VARIABLE]))
