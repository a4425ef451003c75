"""MAE, CLIP, SigLIP and SAM: every published layout gives one tree, and every difference is listed at once."""

from __future__ import annotations

import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from lh_jax import published
from lh_jax import weight_files
from lh_jax.convert import __main__ as command
from lh_jax.convert import layouts
from lh_jax.convert import sources
from lh_jax.convert import tensor_files
from lh_jax.models import foundation
from tests.convert import test_pth_reader as pth
from tests import golden

FIXTURES = golden.FIXTURES
# Hugging Face to the other layout of each kind, written apart from the converters' tables; in this order.
RENAMES = {
  'mae': (
    ('vit.', ''),
    ('embeddings.patch_embeddings.projection', 'patch_embed.proj'),
    ('embeddings.position_embeddings', 'pos_embed'),
    ('embeddings.', ''),
    ('encoder.layer.', 'blocks.'),
    ('attention.output.dense', 'attn.proj'),
    ('attention.attention.', 'attn.'),
    ('layernorm_before', 'norm1'),
    ('layernorm_after', 'norm2'),
    ('intermediate.dense', 'mlp.fc1'),
    ('output.dense', 'mlp.fc2'),
    ('layernorm', 'norm'),
  ),
  'clip': (
    ('vision_model.', 'visual.'),
    ('embeddings.position_embedding.weight', 'positional_embedding'),
    ('embeddings.patch_embedding', 'conv1'),
    ('embeddings.', ''),
    ('pre_layrnorm', 'ln_pre'),
    ('post_layernorm', 'ln_post'),
    ('encoder.layers.', 'transformer.resblocks.'),
    ('layer_norm', 'ln_'),
    ('self_attn.', 'attn.'),
    ('mlp.fc1', 'mlp.c_fc'),
    ('mlp.fc2', 'mlp.c_proj'),
  ),
  'siglip': (
    ('vision_model.', 'params/img/'),
    ('embeddings.position_embedding.weight', 'pos_embedding'),
    ('embeddings.patch_embedding', 'embedding'),
    ('post_layernorm', 'Transformer/encoder_norm'),
    ('encoder.layers.', 'Transformer/encoderblock_'),
    ('layer_norm1', 'LayerNorm_0'),
    ('layer_norm2', 'LayerNorm_1'),
    ('self_attn', 'MultiHeadDotProductAttention_0'),
    ('q_proj', 'query'),
    ('k_proj', 'key'),
    ('v_proj', 'value'),
    ('out_proj', 'out'),
    ('mlp.fc1', 'MlpBlock_0/Dense_0'),
    ('mlp.fc2', 'MlpBlock_0/Dense_1'),
    ('.', '/'),
  ),
  'sam': (
    ('vision_encoder.', 'image_encoder.'),
    ('projection', 'proj'),
    ('layers.', 'blocks.'),
    ('layer_norm', 'norm'),
    ('neck.conv1', 'neck.0'),
    ('neck.norm1', 'neck.1'),
    ('neck.conv2', 'neck.2'),
    ('neck.norm2', 'neck.3'),
  ),
}
# What the published files hold besides the image encoder.
REST = {
  'mae': ('mask_token', 'decoder_embed.weight', 'decoder_blocks.0.attn.qkv.bias', 'decoder_pos_embed'),
  'clip': (
    'visual.proj',
    'transformer.resblocks.0.attn.in_proj_weight',
    'ln_final.weight',
    'token_embedding.weight',
    'positional_embedding',
    'text_projection',
    'logit_scale',
    'input_resolution',
    'context_length',
    'vocab_size',
  ),
  'siglip': (
    'params/t',
    'params/b',
    'params/txt/Encoder_0/encoderblock_0/LayerNorm_0/scale',
    'params/img/MAPHead_0/probe',
    'params/img/MAPHead_0/MultiHeadDotProductAttention_0/query/kernel',
  ),
  'sam': ('prompt_encoder.no_mask_embed.weight', 'mask_decoder.iou_token.weight'),
}
FACE_REST = {
  'mae': ('decoder.mask_token', 'decoder.decoder_layers.0.output.dense.bias'),
  'clip': ('text_model.final_layer_norm.bias', 'visual_projection.weight', 'text_projection.weight', 'logit_scale')
  + ('vision_model.embeddings.position_ids',),
  'siglip': ('text_model.head.bias', 'logit_scale', 'logit_bias', 'vision_model.head.probe'),
  'sam': ('prompt_encoder.no_mask_embed.weight', 'mask_decoder.iou_token.weight')
  + ('shared_image_embedding.positional_embedding',),
}
LAYOUTS = ('first', 'Hugging Face')
CASES = [(kind, layout) for kind in golden.FOUNDATIONS for layout in LAYOUTS]
NAMES = {'mae': 'mae_vitb16', 'clip': 'clip_vitb16', 'siglip': 'siglip_vitb16', 'sam': 'sam_vitb16'}


def face(kind):
  return tensor_files.read(FIXTURES / f'foundation_{kind}.safetensors')


def first(kind):
  """The tensors of the fixture as the official files hold them."""
  tensors = {}
  for key, array in face(kind).items():
    for before, after in RENAMES[kind]:
      key = key.replace(before, after)
    tensors[key] = array
  if kind in ('mae', 'clip'):
    parts = ('query', 'key', 'value') if kind == 'mae' else ('q_proj', 'k_proj', 'v_proj')
    for key in [key for key in tensors if parts[0] in key]:
      joined = np.concatenate([tensors.pop(key.replace(parts[0], part)) for part in parts])
      tensors[key.replace(parts[0] + '.', 'qkv.' if kind == 'mae' else 'in_proj_')] = joined
  if kind == 'clip':
    # A vector there.
    tensors['visual.class_embedding'] = tensors['visual.class_embedding'].reshape(-1)
  return {key: _flax(key, array) for key, array in tensors.items()} if kind == 'siglip' else tensors


def _flax(key, array):
  """A tensor of torch's SigLIP as big_vision has it, which calls weights kernel or scale."""
  array = array.T if array.ndim == 2 and not key.endswith('pos_embedding') else array
  array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
  array = array[None] if key.endswith('pos_embedding') else array
  if 'MultiHead' in key and '/out/' in key:
    return array.reshape(2, 4, 8) if array.ndim == 2 else array
  return array.reshape(*array.shape[:-1], 2, 4) if 'MultiHead' in key else array


def checkpoint(kind, layout):
  if layout == 'Hugging Face':
    return face(kind) | {name: np.ones(3, np.float32) for name in FACE_REST[kind]}
  tensors = first(kind)
  if kind == 'siglip':
    weight = lambda key: 'scale' if 'Norm' in key or 'norm' in key else 'kernel'
    tensors = {key.replace('/weight', f'/{weight(key)}'): array for key, array in tensors.items()}
  rest = {name: np.ones((8, 2, 4) if name.endswith('kernel') else 3, np.float32) for name in REST[kind]}
  return tensors | rest


def convert(kind, tensors):
  return layouts.convert(tensors, golden.abstract(golden.transformer(kind)[0]), sources.LAYOUTS[kind])


@pytest.mark.parametrize('kind', golden.FOUNDATIONS)
def test_all_layouts_give_the_same_tree(kind):
  expected = golden.transformer(kind)[1]
  prefixes = ('vit.', 'vision_model.', 'vision_encoder.', 'image_encoder.', 'params/')
  for layout in LAYOUTS:
    tensors = checkpoint(kind, layout)
    jax.tree.map(np.testing.assert_array_equal, convert(kind, tensors), expected)
    # The encoder alone, as it is also published.
    bare = {}
    for key, array in (face(kind) if layout == 'Hugging Face' else tensors).items():
      for prefix in prefixes:
        key = key.removeprefix(prefix)
      bare[key] = array
    jax.tree.map(np.testing.assert_array_equal, convert(kind, bare), expected)


@pytest.mark.parametrize('kind, layout', CASES)
def test_every_difference_is_listed_at_once(kind, layout):
  tensors = checkpoint(kind, layout)
  encoder = convert_names(kind, layout)
  missing, wrong = encoder[3], encoder[-1]
  shape = tensors.pop(missing).shape
  tensors[wrong] = np.ones((5, 7), np.float32)
  tensors['blocks.77.extra'] = np.ones(2, np.float32)
  title = {'mae': 'official', 'clip': 'OpenAI', 'siglip': 'big_vision', 'sam': 'official'}[kind]
  with pytest.raises(ValueError) as error:
    convert(kind, tensors)
  lines = str(error.value).splitlines()
  assert lines[0].startswith(
    f'3 tensors do not match the model in the {title if layout == "first" else "Hugging Face"} layout'
  )
  assert len(lines) == 4 and shape
  assert any(line.startswith(f'  missing: {missing} ') for line in lines)
  assert any(line.startswith(f'  shape: {wrong} is (5, 7), expected ') for line in lines)
  assert '  unknown: blocks.77.extra (2,)' in lines


def convert_names(kind, layout):
  """Names of the image encoder's tensors in a layout."""
  rest = FACE_REST[kind] if layout == 'Hugging Face' else REST[kind]
  return sorted(name for name in checkpoint(kind, layout) if name not in rest)


def write(path, kind, layout):
  """Writes a checkpoint in the format in which it is published."""
  tensors = checkpoint(kind, layout)
  if layout == 'Hugging Face':
    safetensors.numpy.save_file({name: np.array(array) for name, array in tensors.items()}, path)
  elif kind == 'siglip':
    with path.open('wb') as file:
      np.savez(file, **tensors)
  elif kind == 'clip':
    write_torchscript(path, tensors)
  else:
    program, storages = torch_program(tensors)
    pth.write(path, f'}}Vmodel\n{program.removesuffix(".")}s.' if kind == 'mae' else program, storages)
  return path


def torch_program(tensors):
  programs, storages = {}, []
  for i, (name, array) in enumerate(tensors.items()):
    array = np.ascontiguousarray(array, np.float32)
    strides = tuple(stride // 4 for stride in array.strides)
    programs[name] = pth.tensor(key=str(i), count=array.size, shape=array.shape, strides=strides)
    storages.append(array)
  return pth.state_dict(**programs), storages


def write_torchscript(path, tensors):
  """An archive as torch.jit.save writes it: nested modules of classes of its own, with what is no tensor beside."""
  storages = []

  def module(branch):
    program = (
      'c__torch__.multimodal.model\nModule\n)\x81}Vtraining\nI01\nsVsizes\nctorch.jit._pickle\nbuild_intlist\n((l'
    )
    program += 'I1\natRs'
    for name, value in branch.items():
      if isinstance(value, dict):
        part = module(value)
      else:
        array = np.ascontiguousarray(value, np.float32)
        strides = tuple(stride // 4 for stride in array.strides)
        part = pth.tensor(key=str(len(storages)), count=array.size, shape=array.shape, strides=strides)
        storages.append(array)
      program += f'V{name}\n{part}s'
    return program + 'b'

  tree = weight_files.unflatten({name.replace('.', '/'): array for name, array in tensors.items()})
  pth.write(path, (module(tree) + '.').encode('latin1'), storages)


@pytest.fixture
def tiny_names(monkeypatch, tmp_path):
  """Gives the published names the size of the fixtures, and a folder of weights of their own."""
  monkeypatch.setenv('LH_JAX_CACHE', str(tmp_path / 'cache'))
  for kind, name in NAMES.items():
    entry = foundation.FOUNDATIONS[name]
    monkeypatch.setitem(foundation.FOUNDATIONS, name, entry._replace(module=golden.transformer(kind)[0]))


@pytest.mark.parametrize('kind, layout', CASES)
def test_from_the_published_file_to_features(kind, layout, tiny_names, tmp_path, capsys):
  suffix = '.safetensors' if layout == 'Hugging Face' else pathlib.Path(published.FILES[NAMES[kind]].name).suffix
  source = write(tmp_path / f'source{suffix}', kind, layout)
  assert command.main([NAMES[kind], str(source)]) == 0, capsys.readouterr().err
  model = foundation.build(NAMES[kind])
  params = weight_files.load_foundation(NAMES[kind], None, model.abstract_params())
  jax.tree.map(np.testing.assert_array_equal, params, golden.transformer(kind)[1])
  metadata = weight_files.load(weight_files.default_path(NAMES[kind]))[1]
  assert metadata['source'] == source.name and metadata['licence'] == published.FILES[NAMES[kind]].licence


@pytest.mark.parametrize('kind, layout', CASES)
def test_truncated_files(kind, layout, tiny_names, tmp_path, capsys):
  suffix = '.safetensors' if layout == 'Hugging Face' else pathlib.Path(published.FILES[NAMES[kind]].name).suffix
  source = write(tmp_path / f'source{suffix}', kind, layout)
  source.write_bytes(source.read_bytes()[:-200])
  assert command.main([NAMES[kind], str(source)]) == 1
  message = capsys.readouterr().err
  assert f'{source} as {NAMES[kind]}: {source}: not a whole ' in message and 'may be truncated' in message


def test_published_checksums_and_licences():
  assert published.FILES['sam_vitb16'].name == 'sam_vit_b_01ec64.pth'
  for name, file in published.FILES.items():
    kind, _, digits = file.digest.partition(':')
    assert file.licence and file.family in sources.FAMILIES
    assert not file.digest or (kind in ('sha256', 'md5') and int(digits, 16)), name
    places = bool(file.package) + bool(file.addresses) + bool(file.page)
    assert places == (file.licence != 'none published')
  assert [published.FILES[f'mae_vit{size}'].licence for size in ('b16', 'l16', 'h14')] == ['CC-BY-NC-4.0'] * 3
