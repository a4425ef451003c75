"""Restorers on pixels: the official names of NAFNet, Restormer and SFHformer.

Our tree is a network's variables, {'params', 'batch_stats'}. PyTorch's pixel shuffle takes the channels of a patch
together, ours its pixels, so the output channels of the convolutions before it are put into that order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import functools
import re

from flax import linen as nn
import numpy as np

from lh_jax import weight_files
from lh_jax.convert import layouts
from lh_jax.models import restorers
from lh_jax.models.restorers import pixel

_NAFNET_BLOCK = {
  'norm1': 'norm1',
  'norm2': 'norm2',
  'expand': 'conv1',
  'depthwise': 'conv2',
  'attention': 'sca.1',
  'project': 'conv3',
  'feed_expand': 'conv4',
  'feed_project': 'conv5',
  'beta': 'beta',
  'gamma': 'gamma',
}
_RESTORMER_BLOCK = {
  'norm1': 'norm1.body',
  'norm2': 'norm2.body',
  'attention/temperature': 'attn.temperature',
  'attention/qkv': 'attn.qkv',
  'attention/qkv_depthwise': 'attn.qkv_dwconv',
  'attention/project': 'attn.project_out',
  'feed_forward/expand': 'ffn.project_in',
  'feed_forward/depthwise': 'ffn.dwconv',
  'feed_forward/project': 'ffn.project_out',
}
_SFHFORMER_BLOCK = {
  'norm1': 'norm1',
  'norm2': 'norm2',
  'beta': 'beta',
  'gamma': 'gamma',
  'mixer/expand': 'mixer.conv_init.0',
  'mixer/local1': 'mixer.mixer_local.CDilated_1',
  'mixer/local2': 'mixer.mixer_local.CDilated_2',
  'mixer/gate_in': 'mixer.ca.1',
  'mixer/gate_out': 'mixer.ca.3',
  'mixer/project': 'mixer.ca_conv.0',
  'feed_forward/expand': 'ffn.conv_init.0',
  'feed_forward/window3': 'ffn.conv1_1.0',
  'feed_forward/window5': 'ffn.conv1_2.0',
  'feed_forward/window7': 'ffn.conv1_3.0',
  'feed_forward/project': 'ffn.conv_fina.0',
}
# What follows 'mixer/' and 'mixer.mixer_gloal.' in a block.
_WIDE = {
  'global_in': 'conv_init.0',
  'global_out': 'conv_fina.0',
  'fourier/norm': 'FFC.bn',
  'fourier/position': 'FFC.fpe',
  'fourier/gates': 'FFC.weight.0',
  'fourier/filters': 'FFC.fdc',
}
_NARROW = {
  'fourier/norm': 'FFC.bn1',
  'fourier/position': 'FFC.conv_layer2.0',
  'fourier/filters': 'FFC.conv_layer1.0',
}
# Made in the haze and motion blur networks, and used nowhere; bn1 not by every one.
_IDLE = (r'.*\.FFC\.(bn1|bn2|norm1\.body)\.(weight|bias|running_mean|running_var)', r'.*\.FFC\.conv_layer\.weight')
_SFHFORMER_STAGES = ('layer1', 'layer2', 'layer3', 'layer8', 'layer9')


def _layout(
  stages: Mapping[str, str], block: Mapping[str, str], others: Mapping[str, str], shuffled: str, **options: object
) -> layouts.Layout:
  """A layout of a U-net; `shuffled` is the pattern of the kernels before a pixel shuffle."""
  table = {f'{ours}/{a}': f'{theirs}.{b}' for ours, theirs in stages.items() for a, b in block.items()} | dict(others)
  table = {f'{kind}/{ours}': theirs for kind in ('params', 'batch_stats') for ours, theirs in table.items()}
  prepare = functools.partial(_reordered, pattern=re.compile(shuffled))
  return layouts.Layout('official', table, prepare=prepare, **options)


def _reordered(tensors: layouts.Tensors, *, pattern: re.Pattern[str]) -> layouts.Tensors:
  return {name: _pixels_first(array) if pattern.fullmatch(name) else array for name, array in tensors.items()}


def _pixels_first(kernel: np.ndarray) -> np.ndarray:
  """Puts the output channels of an OIHW kernel from the order (channel, pixel of the patch) into the opposite one."""
  if kernel.ndim != 4 or kernel.shape[0] % 4:
    return kernel  # Its shape will be complained of.
  return kernel.reshape(-1, 4, *kernel.shape[1:]).swapaxes(0, 1).reshape(kernel.shape)


def _nafnet() -> layouts.Layout:
  stages = {'encoder#_block#': 'encoders.#.#', 'middle_block#': 'middle_blks.#', 'decoder#_block#': 'decoders.#.#'}
  others = {'conv_in': 'intro', 'down#': 'downs.#', 'up#': 'ups.#.0', 'conv_out': 'ending'}
  return _layout(stages, _NAFNET_BLOCK, others, r'ups\.\d+\.0\.weight')


def _restormer(levels: int) -> layouts.Layout:
  stages = {'middle_block#': 'latent.#', 'refinement_block#': 'refinement.#'}
  others = {'conv_in': 'patch_embed.proj', 'conv_out': 'output'}
  for i in range(levels - 1):
    stages |= {f'{half}{i}_block#': f'{half}_level{i + 1}.#' for half in ('encoder', 'decoder')}
    others |= {f'down{i}': f'down{i + 1}_{i + 2}.body.0', f'up{i}': f'up{i + 2}_{i + 1}.body.0'}
    others[f'reduce{i}'] = f'reduce_chan_level{i + 1}'
  return _layout(stages, _RESTORMER_BLOCK, others, r'up\d_\d\.body\.0\.weight')


def _sfhformer(wide: bool) -> layouts.Layout:
  stages = {f'stage{i}_block#': f'{name}.blocks.#' for i, name in enumerate(_SFHFORMER_STAGES)}
  fourier = {f'mixer/{a}': f'mixer.mixer_gloal.{b}' for a, b in (_WIDE if wide else _NARROW).items()}
  others = {
    'conv_in': 'patch_embed.proj',
    'down0': 'downsample1.proj.0',
    'down1': 'downsample2.proj.0',
    'up3': 'upsample3.proj.0',
    'up4': 'upsample4.proj.0',
    'skip3': 'skip2',
    'skip4': 'skip1',
    'conv_out': 'patch_unembed.proj.0',
  }
  unused = (r'.*\.num_batches_tracked', *(() if wide else _IDLE))
  return _layout(stages, _SFHFORMER_BLOCK | fourier, others, r'upsample\d\.proj\.0\.weight', unused=unused)


_LAYOUTS: dict[type, Callable[..., layouts.Layout]] = {
  restorers.NAFNet: lambda module: _nafnet(),
  restorers.Restormer: lambda module: _restormer(len(module.blocks)),
  restorers.SFHformer: lambda module: _sfhformer(module.wide),
}


def convert(tensors: layouts.Tensors, module: nn.Module) -> weight_files.Tree:
  """Maps a checkpoint's tensors to the variables of a restorer.

  Args:
    tensors: tensor name -> array, with the official names.
    module: the restorer, of any size: as from `pixel.build` or `restorers.build`. SFHformer's have five stages.

  Returns:
    {'params', 'batch_stats'} as nested dicts of float32 arrays.

  Raises:
    ValueError: tensors are missing, left over or of the wrong shape; all of them are listed.
  """
  return layouts.convert(tensors, pixel.abstract_variables(module), (_LAYOUTS[type(module)](module),))
