"""LoRA on convolutions, as arithmetic on parameters.

The high-frequency branches (FHF-LoRA in the encoder, PHF-LoRA in the decoder; Sec. 3.3, Eqs. 8 and 9) add a rank-r
correction to every convolution of at least `min_kernel` pixels, except depthwise ones. A branch B(A x), with A a k x k
convolution C_in -> r and B a 1 x 1 convolution r -> C_out, is the same linear map as one k x k kernel

  dW[h, w, i, o] = (alpha / r) * sum_r A[h, w, i, r] B[r, o],

so the adapted network is the plain network at parameters W + scale * dW: `merge` is the paper's phi* + alpha dphi and
psi* + (1 - alpha) dpsi, it costs nothing at run time, and `scale` may be traced.

A LoRA tree mirrors the parameter tree: where that has a 'kernel', this has {'down': A (k, k, C_in, r), 'up': B (r,
C_out)}.
"""

from __future__ import annotations

from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

Params = Any


def targets(params: Params, *, min_kernel: int = 3) -> dict[tuple[str, ...], tuple[int, ...]]:
  """Lists the adapted kernels: {path of the convolution: kernel shape}.

  Raises:
    ValueError: no convolution that sees more than one channel is as large as `min_kernel`.
  """
  flat = traverse_util.flatten_dict(params)
  found = {
    path[:-1]: value.shape
    for path, value in flat.items()
    if path[-1] == 'kernel' and value.ndim == 4 and min(value.shape[:2]) >= min_kernel and value.shape[2] > 1
  }
  if not found:
    raise ValueError(f'No convolution has a kernel of at least lora.min_kernel={min_kernel} pixels; lower it.')
  return found


def init(key: jax.Array, params: Params, *, rank: int, min_kernel: int = 3) -> Params:
  """Makes a LoRA tree for `params` whose correction is zero.

  A is uniform in +-1/sqrt(fan_in) (Kaiming, a = sqrt(5)), B is zero, as in LoRA (arXiv 2106.09685).

  Args:
    key: random key.
    params: the network's parameters, or their shapes.
    rank: r, at least 1.
    min_kernel: smallest adapted kernel side, in pixels.

  Raises:
    ValueError: rank below 1, or nothing to adapt.
  """
  if rank < 1:
    raise ValueError(f'lora.rank must be at least 1, got {rank}.')
  tree = {}
  for index, (path, (height, width, c_in, c_out)) in enumerate(sorted(targets(params, min_kernel=min_kernel).items())):
    bound = (height * width * c_in) ** -0.5
    shape = (height, width, c_in, rank)
    tree[*path, 'down'] = jax.random.uniform(jax.random.fold_in(key, index), shape, minval=-bound, maxval=bound)
    tree[*path, 'up'] = jnp.zeros((rank, c_out))
  return traverse_util.unflatten_dict(tree)


def merge(params: Params, lora: Params, scale: float | jax.Array, *, alpha: float) -> Params:
  """Returns `params` with scale * dW added to every adapted kernel.

  Args:
    params: the frozen network's parameters.
    lora: a tree made by `init` for these parameters.
    scale: run-time strength of the branch, usually in [0, 1]; may be traced.
    alpha: LoRA's own numerator; dW is scaled by alpha / rank.

  Raises:
    ValueError: `lora` adapts a kernel that `params` does not have.
  """
  flat = traverse_util.flatten_dict(params)
  branches = traverse_util.flatten_dict(lora)
  for path in sorted({path[:-1] for path in branches}):
    if (*path, 'kernel') not in flat:
      raise ValueError(
        f'LoRA adapts {"/".join(path)}, which these parameters do not have: it belongs to another model.'
      )
    down, up = branches[*path, 'down'], branches[*path, 'up']
    correction = (alpha / down.shape[-1]) * jnp.einsum('hwir,ro->hwio', down, up)
    flat[*path, 'kernel'] = flat[*path, 'kernel'] + scale * correction
  return traverse_util.unflatten_dict(flat)


def is_zero(lora: Params) -> bool:
  """Whether a tree of host arrays corrects nothing, as a fresh one: every A or B is zero."""
  branches = traverse_util.flatten_dict(lora)
  return all(
    not (np.any(branches[*path, 'down']) and np.any(branches[*path, 'up'])) for path in {path[:-1] for path in branches}
  )
