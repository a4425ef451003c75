"""Inception weights of FID: from the published `.pth` or a safetensors copy to our variables.

The tensors of pytorch-fid's `pt_inception-2015-12-05-6726825d.pth` (Apache-2.0) keep the names of torchvision's
modules, which ours share; kernels are transposed, (out, in, h, w) -> (h, w, in, out). The classifier `fc` and the
counters of batch normalisation are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lh_jax import weight_files
from lh_jax.convert import layouts

# Our leaf: theirs.
_LEAVES = {
  'conv/kernel': 'conv.weight',
  'bn/scale': 'bn.weight',
  'bn/bias': 'bn.bias',
  'bn/mean': 'bn.running_mean',
  'bn/var': 'bn.running_var',
}
_UNUSED = ('fc.weight', 'fc.bias')


def convert(tensors: Mapping[str, np.ndarray], like: Mapping[str, Any]) -> weight_files.Tree:
  """Maps a checkpoint's tensors to our variables.

  Args:
    tensors: tensor name -> array.
    like: `models.inception.abstract_variables`.

  Returns:
    {'params', 'batch_stats'}: nested dicts of float32 arrays.

  Raises:
    ValueError: tensors are missing, left over, of the wrong shape, as with torchvision's own Inception (its classifier
      has 1000 classes and an auxiliary head), or no finite floating-point numbers; all of them are listed.
  """
  problems, converted, used = [], {}, set()
  for ours, leaf in weight_files.flatten(like).items():
    module, kind, value = ours.split('/', 1)[1].rsplit('/', 2)
    theirs = f'{module.replace("/", ".")}.{_LEAVES[f"{kind}/{value}"]}'
    used.add(theirs)
    shape = tuple(leaf.shape) if len(leaf.shape) == 1 else (leaf.shape[3], leaf.shape[2], *leaf.shape[:2])
    array = layouts.checked(tensors, theirs, shape, problems)
    if array is not None:
      converted[ours] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
  used.update(name for name in tensors if name in _UNUSED or name.endswith('.num_batches_tracked'))
  problems += [f'unknown: {name} {tensors[name].shape}' for name in tensors if name not in used]
  classes = tensors['fc.bias'].size if 'fc.bias' in tensors else 1008
  if classes != 1008:
    problems.append(f'shape: fc.bias has {classes} classes, expected 1008: FID needs the network of 2015')
  if problems:
    raise ValueError(f'{len(problems)} tensors do not match the Inception network of FID.\n  ' + '\n  '.join(problems))
  return weight_files.unflatten(converted)
