"""Sizes of networks, computed from the networks themselves: parameters and multiply-adds.

Multiply-adds are counted as the field's tools do (thop): every convolution and dense layer costs its kernel's size per
output position. Norms, activations, FFTs and products of activations cost nothing.
"""

from __future__ import annotations

import math
from typing import Any, Callable

from flax import linen as nn
import jax

from lh_jax.models import layers

COUNTED = (nn.Conv, nn.Dense, layers.DepthwiseConv)


def parameters(params: Any) -> int:
  """Returns the number of scalars in a parameter tree (arrays or shapes)."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def multiply_adds(function: Callable[..., Any], *args: Any) -> int:
  """Counts the multiply-adds of one call, without running it.

  Args:
    function: applies linen modules.
    *args: arrays or `jax.ShapeDtypeStruct`s.

  Returns:
    The count, over the whole batch.
  """
  total = 0

  def count(next_method: Callable[..., Any], call_args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    nonlocal total
    output = next_method(*call_args, **kwargs)
    if context.method_name != '__call__':
      return output
    if hasattr(context.module, 'multiply_adds'):
      total += context.module.multiply_adds(*call_args)
    elif isinstance(context.module, COUNTED):
      kernel = context.module.variables['params']['kernel']
      total += math.prod(kernel.shape) * math.prod(output.shape[:-1])
    return output

  with nn.intercept_methods(count):
    jax.eval_shape(function, *args)
  return total
