"""Weights of the frequency-enhanced VAE, under the names of the authors' earlier code (UHD-Processer).

Its encoder counts a step down with the level above it, ours with the level below.
"""

from __future__ import annotations

from lh_jax.convert import layouts

_MAX_LEVELS = 8

_FE_BLOCK = {
  'channel_filter/conv1': 'ampconv0.0',
  'channel_filter/conv2': 'ampconv0.2',
  'norm1': 'norm1',
  'plane_in': 'splitconv1',
  'plane_filter/conv1': 'ampconv.0',
  'plane_filter/conv2': 'ampconv.2',
  'image_in': 'splitconv2',
  'depthwise1': 'conv1.depthwise',
  'pointwise1': 'conv1.pointwise',
  'norm2': 'norm2',
  'depthwise2': 'conv2.depthwise',
  'pointwise2': 'conv2.pointwise',
  'merge': 'mergeconv',
  'skip': 'nin_shortcut',
}
_ATTENTION = {
  'norm1': 'norm1.body',
  'attention/temperature': 'attn.temperature',
  'attention/qkv': 'attn.qkv',
  'attention/qkv_depthwise': 'attn.qkv_dwconv',
  'attention/project': 'attn.project_out',
  'norm2': 'norm2.body',
  'feed_forward/expand': 'ffn.project_in',
  'feed_forward/depthwise': 'ffn.dwconv',
  'feed_forward/project': 'ffn.project_out',
}
_FOURIER_UP = {
  'amplitude1': 'Fup.amp_fuse.0',
  'amplitude2': 'Fup.amp_fuse.2',
  'phase1': 'Fup.pha_fuse.0',
  'phase2': 'Fup.pha_fuse.2',
  'post': 'Fup.post',
  'fuse': 'fuse',
}


def _inside(ours: str, theirs: str, table: dict[str, str]) -> dict[str, str]:
  return {f'{ours}/{name}': f'{theirs}.{other}' for name, other in table.items()}


def _half(name: str, levels: str) -> dict[str, str]:
  """The encoder or the decoder, whose levels are called `levels`."""
  return (
    {f'{name}/{layer}': f'{name}.{layer}' for layer in ('conv_in', 'norm_out', 'conv_out')}
    | _inside(f'{name}/level#/block#', f'{name}.{levels}.#.block.#', _FE_BLOCK)
    | _inside(f'{name}/level#/attention#', f'{name}.{levels}.#.attn.#', _ATTENTION)
    | _inside(f'{name}/middle/block0', f'{name}.mid.block_1', _FE_BLOCK)
    | _inside(f'{name}/middle/attention', f'{name}.mid.attn_1', _ATTENTION)
    | _inside(f'{name}/middle/block1', f'{name}.mid.block_2', _FE_BLOCK)
  )


LAYOUTS = (
  layouts.Layout(
    name="authors'",
    table=_half('encoder', 'down')
    | {f'encoder/down{level}': f'encoder.down.{level - 1}.downsample.conv' for level in range(1, _MAX_LEVELS)}
    | {'encoder/to_latent': 'quant_conv', 'decoder/from_latent': 'post_quant_conv'}
    | _half('decoder', 'up')
    | _inside('decoder/up#', 'decoder.up.#.upsample', _FOURIER_UP),
  ),
)
