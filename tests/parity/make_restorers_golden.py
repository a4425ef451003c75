"""Makes the committed golden values of the restorers with the implementations that we compare ourselves with.

  LH_JAX_SFHFORMER=CHECKOUT python tests/parity/make_restorers_golden.py

needs torch, einops, spandrel and spandrel_extra_arches, and a checkout of https://github.com/deng-ai-lab/SFHformer (the
committed file: torch 2.13.0, spandrel 0.4.2, spandrel_extra_arches 0.2.0, that project's commit 1f79941, CPU). It writes
tests/fixtures/restorers_golden.npz: `<network>/shapes`, the shapes of the official names as JSON, whose values are
`weights(shapes)`, and `<network>/<H>x<W>/{block,output}`, what every block and the network make of `image(size)`; blocks
have our names.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pathlib
import re
import sys
import types
import zlib

import numpy as np

FIXTURE = pathlib.Path(__file__).resolve().parents[1] / 'fixtures' / 'restorers_golden.npz'
CHECKOUT = 'LH_JAX_SFHFORMER'  # environment variable
SIZES = ((8, 16), (9, 13))
# Options of `restorers.build` with 3 channels.
NETWORKS = {
  'nafnet': {'name': 'nafnet', 'width': 4, 'blocks': (1, 2, 1, 1, 1), 'padding': 'zero'},
  'restormer': {
    'name': 'restormer',
    'width': 4,
    'blocks': (1, 1, 1, 1),
    'heads': (1, 2, 2, 4),
    'refinement': 1,
    'padding': 'reflect',
  },
  'sfhformer': {'name': 'sfhformer', 'dims': (4, 8, 16, 8, 4), 'blocks': (1, 1, 2, 1, 1), 'padding': 'reflect'},
  # The variant of the checkpoints for haze and motion blur.
  'sfhformer_narrow': {
    'name': 'sfhformer',
    'dims': (4, 8, 16, 8, 4),
    'blocks': (1, 1, 1, 1, 1),
    'wide': False,
    'padding': 'reflect',
  },
}
# Theirs -> ours.
_BLOCKS = (
  (r'(en|de)coders\.(\d+)\.(\d+)', r'\1coder\2_block\3'),
  (r'middle_blks\.(\d+)', r'middle_block\1'),
  (r'latent\.(\d+)', r'middle_block\1'),
  (r'refinement\.(\d+)', r'refinement_block\1'),
)
_STAGES = ('layer1', 'layer2', 'layer3', 'layer8', 'layer9')
_BLOCK_CLASSES = ('NAFBlock', 'TransformerBlock', 'Block', 'OurBlock')


def image(size: tuple[int, int]) -> np.ndarray:
  """Test image, (1, H, W, 3) float32 in [0, 1]; RandomState's stream is frozen by NumPy's compatibility policy."""
  return np.random.RandomState(0).uniform(size=(1, *size, 3)).astype(np.float32)


def weights(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
  """Random float32 weights of these official names; nothing is zero, so that every part of a network shows."""
  return {name: _weight(name, tuple(shape)) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
  random = np.random.RandomState(zlib.crc32(name.encode()))
  noise = random.normal(size=shape)
  if name.endswith('running_var'):
    value = 0.5 + random.uniform(size=shape)
  elif name.endswith(('beta', 'gamma')):
    value = 0.5 * noise
  elif name.endswith('temperature') or (len(shape) == 1 and name.endswith('weight')):
    value = 1 + 0.2 * noise
  elif len(shape) == 1:
    value = 0.2 * noise
  else:
    value = noise * np.prod(shape[1:]) ** -0.5
  return value.astype(np.float32)


def model(options: dict, *, checkout: str | None):
  """A torch model of these options with the recipe's weights, in evaluation mode, and their shapes."""
  import torch

  net = _build(dict(options), checkout)
  shapes = {name: list(t.shape) for name, t in net.state_dict().items() if not name.endswith('num_batches_tracked')}
  net.load_state_dict({name: torch.from_numpy(w) for name, w in weights(shapes).items()}, strict=False)
  return net.eval(), shapes


def _build(options: dict, checkout: str | None):
  kind = options['name']
  if kind == 'nafnet':
    nafnet = _arch('spandrel', 'NAFNet', 'NAFNet_arch')
    blocks, depth = list(options['blocks']), len(options['blocks']) // 2
    return nafnet.NAFNet(
      img_channel=options.get('channels', 3),
      width=options['width'],
      enc_blk_nums=blocks[:depth],
      middle_blk_num=blocks[depth],
      dec_blk_nums=blocks[depth + 1 :],
    )
  if kind == 'restormer':
    return _arch('spandrel_extra_arches', 'Restormer', 'restormer_arch').Restormer(
      dim=options['width'],
      num_blocks=options['blocks'],
      heads=options['heads'],
      num_refinement_blocks=options['refinement'],
      bias=options.get('use_bias', False),
      LayerNorm_type='BiasFree' if options.get('norm') == 'bias_free' else 'WithBias',
    )
  dims, depth = list(options['dims']), list(options['blocks'])
  if options.get('wide', True):
    module = _from_file(pathlib.Path(checkout) / 'models' / 'SFHformer.py')
    net = module.Backbone(patch_size=1, embed_dim=dims, depth=depth)
    return _with_groups(net, module, options.get('groups', 1))
  module = _from_file(pathlib.Path(checkout) / 'dehazing' / 'models' / 'sfhformer_haze.py')
  # Its lists have places for four more stages, which are not made.
  dims, depth = (values[:3] + [0] * 4 + values[3:] for values in (dims, depth))
  dims[6] = dims[2]
  net = module.Backbone_new(patch_size=1, embed_dim=dims, depth=depth)
  if options.get('fourier_norm') == 'none':
    import torch

    for part in net.modules():
      if hasattr(part, 'bn1'):
        part.bn1 = torch.nn.Identity()
  return net


def _with_groups(net, module, groups: int):
  """Gives every Fourier unit so many groups, which the authors set by hand."""
  for part in net.modules():
    if groups > 1 and hasattr(part, 'FFC'):
      part.FFC = module.FourierUnit(2 * part.dim, 2 * part.dim, groups=groups)
  return net


def _arch(package: str, architecture: str, file: str):
  """Imports one architecture without its package, which imports all others and torchvision."""
  root = pathlib.Path(importlib.util.find_spec(package).submodule_search_locations[0])
  parents = {}
  spandrel = pathlib.Path(importlib.util.find_spec('spandrel').submodule_search_locations[0])
  for name, path in (
    ('spandrel', spandrel),
    (package, root),
    (f'{package}.architectures', root / 'architectures'),
    (f'{package}.architectures.{architecture}', root / 'architectures' / architecture),
  ):
    parents[name] = types.ModuleType(name)
    parents[name].__path__ = [str(path)]
  with _modules(parents):
    return importlib.import_module(f'{package}.architectures.{architecture}.__arch.{file}')


def _from_file(path: pathlib.Path):
  """Imports a file of the checkout without the packages that it names and does not use."""
  idle = {name: types.ModuleType(name) for name in ('torchstat', 'matplotlib', 'matplotlib.pyplot')}
  idle['torchstat'].stat = idle['matplotlib'].pyplot = None
  with _modules(idle):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
  return module


@contextlib.contextmanager
def _modules(stand_ins: dict[str, types.ModuleType]):
  """Puts modules in the place of others."""
  before = dict(sys.modules)
  sys.modules.update(stand_ins)
  try:
    yield
  finally:
    for name in stand_ins:
      sys.modules.pop(name)
    sys.modules.update({name: before[name] for name in stand_ins if name in before})


def _our_name(block: str) -> str:
  if match := re.fullmatch(r'(en|de)coder_level(\d)\.(\d+)', block):
    return f'{match[1]}coder{int(match[2]) - 1}_block{match[3]}'
  if match := re.fullmatch(r'(layer\d)\.blocks\.(\d+)', block):
    return f'stage{_STAGES.index(match[1])}_block{match[2]}'
  pattern, ours = next(pair for pair in _BLOCKS if re.fullmatch(pair[0], block))
  return re.sub(pattern, ours, block)


def run(net, images: np.ndarray, *, multiple: int) -> dict[str, np.ndarray]:
  """Runs a torch model on NHWC images; what every block makes of them, and the 'output'.

  NAFNet pads by itself; the others are given images that are padded to `multiple` by reflection, as Restormer's authors
  test it, and their output is cropped.
  """
  import torch

  found = {}

  def keep(name: str):
    return lambda module, inputs, output: found.update({name: output.numpy().transpose(0, 2, 3, 1)})

  hooks = [
    part.register_forward_hook(keep(_our_name(name)))
    for name, part in net.named_modules()
    if type(part).__name__ in _BLOCK_CLASSES
  ]
  x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
  h, w = x.shape[2:]
  if type(net).__name__ != 'NAFNet':
    x = torch.nn.functional.pad(x, (0, -w % multiple, 0, -h % multiple), 'reflect')
  with torch.no_grad():
    found['output'] = net(x)[:, :, :h, :w].numpy().transpose(0, 2, 3, 1)
  for hook in hooks:
    hook.remove()
  return found


def golden(checkout: str) -> dict[str, np.ndarray]:
  """All golden values."""
  values = {}
  for name, options in NETWORKS.items():
    net, shapes = model(options, checkout=checkout)
    values[f'{name}/shapes'] = np.array(json.dumps(shapes))
    for size in SIZES:
      states = run(net, image(size), multiple=8 if name == 'restormer' else 4)
      values |= {f'{name}/{size[0]}x{size[1]}/{state}': value for state, value in states.items()}
  return values


if __name__ == '__main__':
  np.savez_compressed(FIXTURE, **golden(os.environ[CHECKOUT]))
