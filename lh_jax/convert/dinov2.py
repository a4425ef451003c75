"""DINOv2 weights: from the official `.pth` or the Hugging Face safetensors names to our tree.

| ours | official `.pth` | Hugging Face |
|---|---|---|
| cls_token, pos_embed, register_tokens | the same | embeddings.{cls_token,position_embeddings,register_tokens} |
| patch_embed | patch_embed.proj | embeddings.patch_embeddings.projection |
| block_i/... | blocks.i.... | encoder.layer.i.... |
| norm | norm | layernorm |

Kernels are transposed, (out, in, h, w) -> (h, w, in, out) and (out, in) -> (in, out); Hugging Face keeps query, key and
value apart, ours are stacked in that order. `mask_token` is for pre-training and left out, as is the linear head of the
classifier checkpoints, which prefix every other name with `dinov2.` or `dinov2_with_registers.`.
"""

from __future__ import annotations

from collections.abc import Mapping
import os
import pathlib
import re
from typing import Any

import numpy as np

from lh_jax import weight_files
from lh_jax.convert import pth_reader

_PREFIXES = ('dinov2_with_registers.', 'dinov2.')
_UNUSED = ('mask_token', 'embeddings.mask_token')

# (ours, official, Hugging Face); '#' is the block, {a,b} several tensors stacked along their first axis.
_BARE = (
  ('cls_token', 'cls_token', 'embeddings.cls_token'),
  ('pos_embed', 'pos_embed', 'embeddings.position_embeddings'),
  ('register_tokens', 'register_tokens', 'embeddings.register_tokens'),
  ('block_#/ls1', 'blocks.#.ls1.gamma', 'encoder.layer.#.layer_scale1.lambda1'),
  ('block_#/ls2', 'blocks.#.ls2.gamma', 'encoder.layer.#.layer_scale2.lambda1'),
)
# The same for layers, each with a weight (our kernel or scale) and a bias.
_LAYERS = (
  ('patch_embed', 'patch_embed.proj', 'embeddings.patch_embeddings.projection'),
  ('block_#/norm1', 'blocks.#.norm1', 'encoder.layer.#.norm1'),
  ('block_#/attn/qkv', 'blocks.#.attn.qkv', 'encoder.layer.#.attention.attention.{query,key,value}'),
  ('block_#/attn/proj', 'blocks.#.attn.proj', 'encoder.layer.#.attention.output.dense'),
  ('block_#/norm2', 'blocks.#.norm2', 'encoder.layer.#.norm2'),
  ('block_#/mlp/fc1', 'blocks.#.mlp.fc1', 'encoder.layer.#.mlp.fc1'),
  ('block_#/mlp/fc2', 'blocks.#.mlp.fc2', 'encoder.layer.#.mlp.fc2'),
  ('block_#/mlp/w12', 'blocks.#.mlp.w12', 'encoder.layer.#.mlp.weights_in'),
  ('block_#/mlp/w3', 'blocks.#.mlp.w3', 'encoder.layer.#.mlp.weights_out'),
  ('norm', 'norm', 'layernorm'),
)


def _name_table() -> dict[str, tuple[str, str]]:
  table = {ours: (official, face) for ours, official, face in _BARE}
  for ours, official, face in _LAYERS:
    for leaf, suffix in (('kernel', 'weight'), ('scale', 'weight'), ('bias', 'bias')):
      table[f'{ours}/{leaf}'] = (f'{official}.{suffix}', f'{face}.{suffix}')
  return table


_NAMES = _name_table()


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads the tensors of a `.pth` or safetensors checkpoint, whatever its file name.

  Args:
    path: checkpoint file.

  Returns:
    Tensor name -> array.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is of neither format.
  """
  if pathlib.Path(path).suffix in ('.pth', '.pt', '.bin') or pth_reader.is_pth(path):
    return pth_reader.read_pth(path)
  return weight_files.flatten(weight_files.load(path)[0])


def convert(tensors: Mapping[str, np.ndarray], like: Mapping[str, Any]) -> weight_files.Tree:
  """Maps a checkpoint's tensors to our parameter tree.

  Args:
    tensors: tensor name -> array, in the official or the Hugging Face layout.
    like: abstract parameters of the wanted model (`FoundationModel.abstract_params()`).

  Returns:
    Parameters as nested dicts of float32 arrays.

  Raises:
    ValueError: tensors are missing, left over or of the wrong shape; all of them are listed.
  """
  prefix = next((p for p in _PREFIXES if any(name.startswith(p) for name in tensors)), '')
  unused = set(_UNUSED) | ({'classifier.weight', 'classifier.bias'} if prefix else set())
  tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
  layout = 1 if any(name.startswith('embeddings.') for name in tensors) else 0

  problems, converted, used = [], {}, set()
  for ours, leaf in weight_files.flatten(like).items():
    sources = _source_names(ours, layout)
    shape = _source_shape(leaf.shape, len(sources))
    used.update(sources)
    missing = [name for name in sources if name not in tensors]
    problems += [f'missing: {name} {shape}' for name in missing]
    wrong = [name for name in sources if name in tensors and tensors[name].shape != shape]
    problems += [f'shape: {name} is {tensors[name].shape}, expected {shape}' for name in wrong]
    if not missing and not wrong:
      converted[ours] = _transposed(np.concatenate([tensors[name] for name in sources]))
  problems += [f'unknown: {name} {tensors[name].shape}' for name in tensors if name not in used | unused]
  if problems:
    raise ValueError(
      f'{len(problems)} tensors do not match the model in the {("official", "Hugging Face")[layout]} '
      'layout; is this the checkpoint of another size?\n  ' + '\n  '.join(problems)
    )
  return weight_files.unflatten(converted)


def _source_names(ours: str, layout: int) -> list[str]:
  """Names of the tensors, in the given layout, that one of ours is made of."""
  block = re.search(r'block_(\d+)', ours)
  number = block.group(1) if block else ''
  name = _NAMES[re.sub(r'block_\d+', 'block_#', ours)][layout].replace('#', number)
  several = re.fullmatch(r'(.*)\{(.*)\}(.*)', name)
  if not several:
    return [name]
  before, middle, after = several.groups()
  return [before + part + after for part in middle.split(',')]


def _source_shape(shape: tuple[int, ...], parts: int) -> tuple[int, ...]:
  """Shape of each of the `parts` tensors that one of ours, of the given shape, is made of."""
  if len(shape) == 4:
    shape = (shape[3], shape[2], shape[0], shape[1])
  elif len(shape) == 2:
    shape = (shape[1], shape[0])
  return (shape[0] // parts, *shape[1:])


def _transposed(array: np.ndarray) -> np.ndarray:
  """PyTorch's axis order to ours: convolution kernels (4-d) and dense kernels (2-d); the rest stays."""
  array = array.astype(np.float32)
  if array.ndim == 4:
    return array.transpose(2, 3, 1, 0)
  return array.T if array.ndim == 2 else array
