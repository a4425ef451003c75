"""Makes the committed DINOv2 fixtures with torch and transformers, which the basic test suite does without.

Run `python tests/parity/make_dinov2_golden.py` in an environment with torch and transformers (the committed files:
torch 2.13.0, transformers 5.23.0, CPU). It writes, under tests/fixtures:
- `dinov2_tiny.pth`, `dinov2_tiny_reg4.pth`: random weights of two tiny models, official names, by `torch.save`.
- `dinov2_golden.npz`: what transformers computes from them on `image(size)`: `<model>/<H>x<W>/block_<i>`, every hidden
  state, and `<model>/<H>x<W>/norm`, the final tokens, class token first; and positional embeddings resized by torch,
  `positions/{official,registers}/<h>x<w>` of `position_table()`.

transformers resizes the positions of models without registers to the output size; the official code passes a scale
factor with an offset of 0.1. `use_official_positions` gives the transformers model the official rule.
"""

from __future__ import annotations

import pathlib

import numpy as np

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / 'fixtures'
IMAGE_SIZES = ((20, 20), (16, 16), (12, 28))
POSITION_SIZES = ((16, 16), (12, 40))
# (fields of our VisionTransformer, whether the transformers class is the one with registers).
TINY = {
  'dinov2_tiny': dict(dim=8, depth=2, heads=2, patch=4, grid=5),
  'dinov2_tiny_reg4': dict(dim=8, depth=2, heads=2, patch=4, grid=5, registers=4, swiglu=True),
}


def image(size: tuple[int, int]) -> np.ndarray:
  """Normalised test image, (1, H, W, 3) float32; RandomState's stream is frozen by NumPy's compatibility policy."""
  return np.random.RandomState(0).normal(size=(1, *size, 3)).astype(np.float32)


def position_table() -> np.ndarray:
  """(37, 37, 1) float32 table of positional embeddings."""
  return np.random.RandomState(1).normal(size=(37, 37, 1)).astype(np.float32)


def transformers_model(
  seed: int,
  *,
  dim: int,
  depth: int,
  heads: int,
  patch: int = 14,
  grid: int = 37,
  registers: int = 0,
  swiglu: bool = False,
):
  """A transformers DINOv2 of the given size whose every parameter is random, so that none can be lost unnoticed."""
  import torch
  import transformers

  options = dict(
    hidden_size=dim,
    num_hidden_layers=depth,
    num_attention_heads=heads,
    patch_size=patch,
    image_size=patch * grid,
    use_swiglu_ffn=swiglu,
  )
  if registers:
    model = transformers.Dinov2WithRegistersModel(
      transformers.Dinov2WithRegistersConfig(num_register_tokens=registers, **options)
    )
  else:
    model = transformers.Dinov2Model(transformers.Dinov2Config(**options))
  randomise(model, torch.Generator().manual_seed(seed))
  return model.eval()


def randomise(model, generator) -> None:
  """Randomises every parameter of a torch model, in place; vectors stay near their initial ones or zeros."""
  import torch

  with torch.no_grad():
    for value in model.parameters():
      noise = torch.randn(value.shape, generator=generator)
      if value.ndim == 1:
        value.add_(0.1 * noise)
      else:
        value.copy_(noise * value[0].numel() ** -0.5)


def official_state_dict(model) -> dict:
  """The transformers model's weights under the names of the official checkpoints."""
  import torch

  embeddings = model.embeddings
  state = {
    'cls_token': embeddings.cls_token,
    'pos_embed': embeddings.position_embeddings,
    'mask_token': embeddings.mask_token,
    'patch_embed.proj.weight': embeddings.patch_embeddings.projection.weight,
    'patch_embed.proj.bias': embeddings.patch_embeddings.projection.bias,
    'norm.weight': model.layernorm.weight,
    'norm.bias': model.layernorm.bias,
  }
  if hasattr(embeddings, 'register_tokens'):
    state['register_tokens'] = embeddings.register_tokens
  for i, layer in enumerate(model.encoder.layer):
    block = f'blocks.{i}.'
    state[block + 'ls1.gamma'] = layer.layer_scale1.lambda1
    state[block + 'ls2.gamma'] = layer.layer_scale2.lambda1
    attention, mlp = layer.attention, layer.mlp
    for leaf in ('weight', 'bias'):
      state[f'{block}norm1.{leaf}'] = getattr(layer.norm1, leaf)
      state[f'{block}norm2.{leaf}'] = getattr(layer.norm2, leaf)
      qkv = [getattr(part, leaf) for part in (attention.q_proj, attention.k_proj, attention.v_proj)]
      state[f'{block}attn.qkv.{leaf}'] = torch.cat(qkv)
      state[f'{block}attn.proj.{leaf}'] = getattr(attention.o_proj, leaf)
      if hasattr(mlp, 'fc1'):
        state[f'{block}mlp.fc1.{leaf}'] = getattr(mlp.fc1, leaf)
        state[f'{block}mlp.fc2.{leaf}'] = getattr(mlp.fc2, leaf)
      else:
        state[f'{block}mlp.w12.{leaf}'] = torch.cat([getattr(mlp.gate_proj, leaf), getattr(mlp.up_proj, leaf)])
        state[f'{block}mlp.w3.{leaf}'] = getattr(mlp.down_proj, leaf)
  return {name: value.detach() for name, value in state.items()}


def resized_positions(table, size: tuple[int, int], *, registers: bool):
  """Positions (n, n, dim) resized by torch as the official code does; returns (h, w, dim).

  The official code leaves the table alone when the grid is the stored one. With registers it passes the size and
  anti-aliases; without, it passes scale factors with an offset of 0.1.
  """
  import torch

  stored = table.shape[0]
  if size == (stored, stored):
    return table
  planes = table.permute(2, 0, 1)[None]
  if registers:
    planes = torch.nn.functional.interpolate(planes, size=size, mode='bicubic', antialias=True)
  else:
    scale = [(n + 0.1) / stored for n in size]
    planes = torch.nn.functional.interpolate(planes, scale_factor=scale, mode='bicubic', antialias=False)
  if tuple(planes.shape[2:]) != size:
    raise AssertionError(f'torch gave {tuple(planes.shape[2:])} instead of {size}')
  return planes[0].permute(1, 2, 0)


def use_official_positions(model) -> None:
  """Makes a transformers model without registers resize its positions by the official rule."""
  import torch

  embeddings = model.embeddings

  def interpolate(tokens, height, width):
    del tokens
    patch = embeddings.patch_size
    table = embeddings.position_embeddings
    side = round((table.shape[1] - 1) ** 0.5)
    grid = resized_positions(table[0, 1:].reshape(side, side, -1), (height // patch, width // patch), registers=False)
    return torch.cat([table[:, :1], grid.reshape(1, -1, table.shape[-1])], dim=1)

  embeddings.interpolate_pos_encoding = interpolate


def hidden_states(model, images: np.ndarray) -> dict[str, np.ndarray]:
  """Runs a transformers model on NHWC images; every block's hidden state, then 'norm', the final tokens."""
  import torch

  states = {}
  # Hooks, because the tuple that transformers returns ends with the normalised state in some versions.
  hooks = [
    layer.register_forward_hook(lambda module, inputs, output, i=i: states.update({f'block_{i}': output.numpy()}))
    for i, layer in enumerate(model.encoder.layer)
  ]
  with torch.no_grad():
    states['norm'] = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).last_hidden_state.numpy()
  for hook in hooks:
    hook.remove()
  return states


def golden() -> dict[str, np.ndarray]:
  """All golden values."""
  import torch

  values = {}
  for size in POSITION_SIZES:
    for rule in ('official', 'registers'):
      resized = resized_positions(torch.from_numpy(position_table()), size, registers=rule == 'registers')
      values[f'positions/{rule}/{size[0]}x{size[1]}'] = resized.numpy()
  for seed, (name, options) in enumerate(TINY.items()):
    model = transformers_model(seed, **options)
    if not options.get('registers'):
      use_official_positions(model)
    for size in IMAGE_SIZES:
      for state, value in hidden_states(model, image(size)).items():
        values[f'{name}/{size[0]}x{size[1]}/{state}'] = value
  return values


def main() -> None:
  """Writes the fixtures."""
  import torch

  FIXTURES.mkdir(exist_ok=True)
  for seed, (name, options) in enumerate(TINY.items()):
    torch.save(official_state_dict(transformers_model(seed, **options)), FIXTURES / f'{name}.pth')
  np.savez_compressed(FIXTURES / 'dinov2_golden.npz', **golden())


if __name__ == '__main__':
  main()
