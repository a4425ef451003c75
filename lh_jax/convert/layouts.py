"""From the tensors of a checkpoint to our tree, by tables of names: the machinery that every converter shares.

A `Layout` is one way in which a network is published, for example 'official' or 'Hugging Face'. Its table maps our
names to theirs, a layer ('block_#/norm1': 'blocks.#.norm1') or a single tensor ('pos_embed': 'pos_embed') an entry:
- '#' is a number; the first of ours is the first of theirs, and so on ('encoder_#/block_#').
- '{a,b}' in theirs are several tensors that ours stacks in that order along its last axis, the output channels.
- A layer has a leaf for each of ours: kernel and scale are `weight`, bias is `bias`, and so on (`Layout.leaves`).

Kernels, that is, leaves called 'kernel', are transposed where the layout is PyTorch's: (out, in, h, w) ->
(h, w, in, out) and (out, in) -> (in, out). Nothing else is. Shapes have to be equal, but for a few leaves whose axes of
length 1 differ from publisher to publisher (`_LOOSE`). Everything becomes float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import itertools
import re
from typing import Any

import numpy as np

from lh_jax import weight_files

Tensors = Mapping[str, np.ndarray]

TORCH_LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}
FLAX_LEAVES = {'kernel': 'kernel', 'scale': 'scale', 'bias': 'bias'}
# Tokens and tables of positions have an axis for the batch or have none; the factors of channels and heads are vectors
# here, and of the rank of what they multiply in the published files.
_LOOSE = ('cls_token', 'register_tokens', 'pos_embed', 'temperature', 'beta', 'gamma')


@dataclasses.dataclass(frozen=True)
class Layout:
  """One way in which a network's weights are named and stored.

  Attributes:
    name: what error messages call it.
    table: our layer or tensor -> theirs; see the module's docstring. The first entry that fits counts.
    prefixes: what may stand before every name of the table; the one that fits most names is taken.
    unused: regular expressions of whole names, prefix included, that are left out.
    leaves: our leaf of a layer -> theirs.
    separator: between a layer and its leaf.
    transposed: whether kernels are stored in PyTorch's order.
    prepare: changes a checkpoint's tensors before anything is looked up, for what a table cannot say.
  """

  name: str
  table: Mapping[str, str]
  prefixes: tuple[str, ...] = ('',)
  unused: tuple[str, ...] = ()
  leaves: Mapping[str, str] = dataclasses.field(default_factory=lambda: TORCH_LEAVES)
  separator: str = '.'
  transposed: bool = True
  prepare: Callable[[Tensors], Tensors] | None = None


def convert(tensors: Tensors, like: Mapping[str, Any], layouts: tuple[Layout, ...]) -> weight_files.Tree:
  """Maps a checkpoint's tensors to our parameter tree.

  Args:
    tensors: tensor name -> array, in one of the layouts; the one that most names fit is taken.
    like: abstract parameters of the wanted model.
    layouts: the layouts in which the network is published.

  Returns:
    Parameters as nested dicts of float32 arrays, of the structure and shapes of `like`.

  Raises:
    ValueError: tensors are missing, left over, of the wrong shape, or no finite floating-point numbers; all of them are
      listed.
  """
  expected = weight_files.flatten(like)
  choices = [(layout, layout.prepare(tensors) if layout.prepare else tensors) for layout in layouts]
  fits = [
    (_names(layout, prefix, expected), layout, renamed) for layout, renamed in choices for prefix in layout.prefixes
  ]
  # The first of equals, as max() gives it.
  names, layout, tensors = max(fits, key=lambda fit: sum(part in fit[2] for parts in fit[0].values() for part in parts))

  problems = [f'unnamed: {ours} has no counterpart there' for ours, parts in names.items() if not parts]
  converted = {}
  for ours, parts in names.items():
    if not parts:
      continue
    shape = tuple(expected[ours].shape)
    part_shape = (*shape[:-1], shape[-1] // len(parts)) if shape else shape
    stored = _stored_shape(ours, part_shape, layout)
    loose = ours.rsplit('/', 1)[-1] in _LOOSE
    found = [checked(tensors, part, stored, problems, loose=loose) for part in parts]
    arrays = [_ours(ours, array, layout) for array in found if array is not None]
    if len(arrays) == len(parts):
      converted[ours] = np.concatenate(arrays, axis=-1) if len(arrays) > 1 else arrays[0]
  used = set(itertools.chain.from_iterable(names.values()))
  unused = re.compile('|'.join(f'(?:{pattern})' for pattern in layout.unused) or r'(?!)')
  problems += [
    f'unknown: {name} {array.shape}'
    for name, array in tensors.items()
    if name not in used and not unused.fullmatch(name)
  ]
  if problems:
    raise ValueError(
      f'{len(problems)} tensors do not match the model in the {layout.name} layout; is this the checkpoint of another '
      'size?\n  ' + '\n  '.join(problems)
    )
  return weight_files.unflatten(converted)


def checked(
  tensors: Tensors, name: str, shape: tuple[int, ...], problems: list[str], *, loose: bool = False
) -> np.ndarray | None:
  """Takes one tensor of a checkpoint if it is there, of the right shape, and made of floating-point numbers.

  Args:
    tensors: tensor name -> array.
    name: of the tensor.
    shape: that it should have.
    problems: what is wrong with it is added here, numbers that are not finite included.
    loose: axes of length 1 do not count.

  Returns:
    The tensor in this shape as float32; None where it cannot be taken.
  """
  if name not in tensors:
    problems.append(f'missing: {name} {shape}')
    return None
  array = tensors[name]
  fits = array.shape == shape or (loose and _long_sides(array.shape) == _long_sides(shape))
  # bfloat16 is of NumPy's kind 'V', as structures are.
  floating = array.dtype.kind == 'f' or array.dtype.name == 'bfloat16'
  if not fits:
    problems.append(f'shape: {name} is {array.shape}, expected {shape}')
  if not floating:
    problems.append(f'dtype: {name} is {array.dtype}, expected floating-point numbers')
  if not (fits and floating):
    return None
  with np.errstate(over='ignore'):
    array = array.reshape(shape).astype(np.float32)
  if not np.isfinite(array).all():
    problems.append(f'not finite: {name}')
  return array


def _names(layout: Layout, prefix: str, expected: Mapping[str, Any]) -> dict[str, list[str]]:
  """Our tensor -> the names of the tensors that it is made of; an empty list where the table has no entry."""
  patterns = [(re.compile(re.escape(ours).replace(r'\#', r'(\d+)')), theirs) for ours, theirs in layout.table.items()]
  return {ours: [prefix + name for name in _parts(ours, layout, patterns)] for ours in expected}


def _parts(ours: str, layout: Layout, patterns: list[tuple[re.Pattern[str], str]]) -> list[str]:
  layer, _, leaf = ours.rpartition('/')
  for pattern, theirs in patterns:
    if match := pattern.fullmatch(ours):
      return _stacked(theirs, match.groups())
    if leaf in layout.leaves and (match := pattern.fullmatch(layer)):
      return _stacked(theirs + layout.separator + layout.leaves[leaf], match.groups())
  return []


def _stacked(theirs: str, numbers: tuple[str, ...]) -> list[str]:
  """'x.#.{a,b}.c' and ('3',) -> ['x.3.a.c', 'x.3.b.c']."""
  remaining = iter(numbers)
  name = re.sub('#', lambda _: next(remaining), theirs)
  several = re.fullmatch(r'(.*)\{(.*)\}(.*)', name)
  if not several:
    return [name]
  before, middle, after = several.groups()
  return [before + part + after for part in middle.split(',')]


def _is_transposed(ours: str, ndim: int, layout: Layout) -> bool:
  return layout.transposed and ndim in (2, 4) and ours.rsplit('/', 1)[-1] == 'kernel'


def _stored_shape(ours: str, shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
  """Shape, as they store it, of a tensor that is ours in the given shape."""
  if not _is_transposed(ours, len(shape), layout):
    return shape
  return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _ours(ours: str, array: np.ndarray, layout: Layout) -> np.ndarray:
  """Their tensor in our order."""
  if not _is_transposed(ours, array.ndim, layout):
    return array
  return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _long_sides(shape: tuple[int, ...]) -> list[int]:
  return [side for side in shape if side != 1]
