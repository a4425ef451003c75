"""Makes the committed fixtures of MAE, CLIP, SigLIP and SAM with torch and transformers, which the basic suite does
without.

Run `python tests/parity/make_foundation_golden.py` in an environment with torch and transformers (the committed files:
torch 2.13.0, transformers 5.24.0, CPU). It writes, under tests/fixtures:
- `foundation_<kind>.safetensors`: random weights of a tiny image encoder, with the names that transformers publishes.
- `foundation_golden.npz`: what transformers computes from them on `image(size)`: `<kind>/<H>x<W>/block_<i>`, the state
  after every block, and `<kind>/<H>x<W>/final`, the final patch tokens or map, both without class token,
  (1, h, w, channels).

transformers is used as follows. MAE: mask ratio 0 with noise in ascending order, and the epsilon of the official code.
CLIP: the norm that it applies to the class token, applied to the patch tokens. SAM: it takes its own image size only,
so for others the table of absolute positions is resized by torch as ViTDet does it; the relative ones it resizes itself.
"""

from __future__ import annotations

import importlib
import pathlib
import sys
import tempfile

import numpy as np

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / 'fixtures'
PATCH, GRID = 4, 5
# The stored grid, another square one, and one that is not.
IMAGE_SIZES = ((20, 20), (32, 32), (12, 28))
SIGLIP_HIDDEN = 20
SAM_WINDOW, SAM_CHANNELS = 3, 8
KINDS = ('mae', 'clip', 'siglip', 'sam')
SIZES = dict(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, patch_size=PATCH, image_size=PATCH * GRID)
TEXT = dict(
  hidden_size=8,
  num_hidden_layers=1,
  num_attention_heads=2,
  intermediate_size=8,
  vocab_size=20,
  bos_token_id=0,
  eos_token_id=1,
  pad_token_id=2,
)


def load_transformers():
  """transformers, also beside a torchvision that was built for another torch, which it would fail to import."""
  try:
    importlib.import_module('torchvision')
  except (ImportError, RuntimeError):
    for name in [name for name in sys.modules if name.partition('.')[0] == 'torchvision']:
      del sys.modules[name]
    sys.modules['torchvision'] = None
  import transformers

  return transformers


def image(size: tuple[int, int]) -> np.ndarray:
  """Normalised test image, (1, H, W, 3) float32; RandomState's stream is frozen by NumPy's compatibility policy."""
  return np.random.RandomState(0).normal(size=(1, *size, 3)).astype(np.float32)


def whole_model(kind: str, seed: int):
  """The published model, of a tiny size: with the decoder, the text encoder or the mask decoder; all of it random."""
  import torch

  transformers = load_transformers()
  vision = SIZES | {'intermediate_size': 32}
  if kind == 'mae':
    decoder = {f'decoder_{name}': TEXT[name] for name in ('hidden_size', 'num_hidden_layers', 'num_attention_heads')}
    model = transformers.ViTMAEForPreTraining(
      transformers.ViTMAEConfig(mask_ratio=0.0, layer_norm_eps=1e-6, decoder_intermediate_size=8, **decoder, **vision)
    )
  elif kind == 'clip':
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=8)
    model = transformers.CLIPModel(config)
  elif kind == 'siglip':
    vision['intermediate_size'] = SIGLIP_HIDDEN
    model = transformers.SiglipModel(transformers.SiglipConfig(text_config=TEXT, vision_config=vision))
  else:
    del vision['intermediate_size']
    vision |= dict(mlp_dim=32, window_size=SAM_WINDOW, global_attn_indexes=[1], output_channels=SAM_CHANNELS)
    prompt = dict(hidden_size=8, image_size=PATCH * GRID, patch_size=PATCH, image_embedding_size=GRID)
    decoder = dict(hidden_size=8, mlp_dim=8, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=8)
    model = transformers.SamModel(
      transformers.SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    )
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for value in model.parameters():
      noise = torch.randn(value.shape, generator=generator)
      if value.ndim <= 1:
        value.add_(0.3 * noise)
      else:
        value.copy_(noise * value[0].numel() ** -0.5)
  return model.eval()


def encoder(kind: str, model):
  """The image encoder of a whole model."""
  name = {'mae': 'vit', 'clip': 'vision_model', 'siglip': 'vision_model', 'sam': 'vision_encoder'}[kind]
  return getattr(model, name)


def published_tensors(model) -> dict[str, np.ndarray]:
  """A model's tensors with the names under which transformers saves them."""
  import safetensors.numpy

  with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    return safetensors.numpy.load_file(pathlib.Path(folder) / 'model.safetensors')


def vision_tensors(kind: str, model) -> dict[str, np.ndarray]:
  """Those of the image encoder alone, their prefix included."""
  prefix = {'mae': 'vit.', 'sam': 'vision_encoder.'}.get(kind, 'vision_model.')
  return {name: array for name, array in published_tensors(model).items() if name.startswith(prefix)}


def states(kind: str, model, images: np.ndarray) -> dict[str, np.ndarray]:
  """Runs the image encoder of a whole model on NHWC images; see the module's docstring for the names."""
  import torch

  part = encoder(kind, model)
  pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
  grid = (images.shape[1] // PATCH, images.shape[2] // PATCH)
  found = {}

  def note(name):
    def hook(module, inputs, output):
      found[name] = output[0] if isinstance(output, tuple) else output

    return hook

  blocks = part.encoder.layers if hasattr(part, 'encoder') else part.layers
  hooks = [block.register_forward_hook(note(f'block_{i}')) for i, block in enumerate(blocks)]
  with torch.no_grad():
    if kind == 'mae':
      noise = torch.arange(float(grid[0] * grid[1]))[None]
      final = part(pixels, noise=noise, interpolate_pos_encoding=True).last_hidden_state
    elif kind == 'clip':
      final = part.post_layernorm(part(pixels, interpolate_pos_encoding=True).last_hidden_state)
    elif kind == 'siglip':
      final = part(pixels, interpolate_pos_encoding=True).last_hidden_state
    else:
      final = _sam(part, pixels, grid)
  for hook in hooks:
    hook.remove()
  found['final'] = final
  return {name: _map(value.numpy(), grid, has_class=kind in ('mae', 'clip')) for name, value in found.items()}


def _sam(part, pixels, grid):
  """SAM's encoder on images of any size."""
  import torch

  stored, size = part.pos_embed, part.patch_embed.image_size
  if grid != tuple(stored.shape[1:3]):
    planes = torch.nn.functional.interpolate(stored.permute(0, 3, 1, 2), size=grid, mode='bicubic')
    part.pos_embed = torch.nn.Parameter(planes.permute(0, 2, 3, 1))
  part.patch_embed.image_size = tuple(pixels.shape[2:])
  final = part(pixels).last_hidden_state.permute(0, 2, 3, 1)
  part.pos_embed, part.patch_embed.image_size = stored, size
  return final


def _map(value: np.ndarray, grid: tuple[int, int], *, has_class: bool) -> np.ndarray:
  """Tokens or a map -> (1, h, w, channels), the class token dropped."""
  if value.ndim == 3:
    value = value[:, int(has_class) :]
  return value.reshape(1, *grid, -1)


def main() -> None:
  """Writes the fixtures."""
  import safetensors.numpy

  values = {}
  for seed, kind in enumerate(KINDS):
    model = whole_model(kind, seed)
    tensors = {name: np.ascontiguousarray(array) for name, array in vision_tensors(kind, model).items()}
    safetensors.numpy.save_file(tensors, FIXTURES / f'foundation_{kind}.safetensors')
    for size in IMAGE_SIZES:
      for name, value in states(kind, model, image(size)).items():
        values[f'{kind}/{size[0]}x{size[1]}/{name}'] = value
  np.savez_compressed(FIXTURES / 'foundation_golden.npz', **values)


if __name__ == '__main__':
  main()
