"""Transposed attention against a plain form in NumPy, its gradients where channels vanish, its dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.models import transposed_attention
from lh_jax.models.summary import multiply_adds, parameters


def normal(seed, shape):
  return jax.random.normal(jax.random.key(seed), shape)


def initialised(module, x):
  variables = module.init(jax.random.key(0), x)
  return jax.tree.map(lambda p: p + 0.3 * normal(1, p.shape), variables)


def depthwise(x, kernel):
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  h, w = x.shape[1:3]
  return sum(padded[:, i : i + h, j : j + w] * kernel[i, j, 0] for i in range(3) for j in range(3))


@pytest.mark.parametrize('heads', [1, 2])
def test_attention(heads):
  x = normal(2, (2, 4, 5, 8))
  module = transposed_attention.TransposedAttention(heads)
  variables = initialised(module, x)
  p = jax.tree.map(np.asarray, variables['params'])
  qkv = depthwise(np.asarray(x) @ p['qkv']['kernel'][0, 0], p['qkv_depthwise']['kernel'])
  result = np.zeros(x.shape, np.float32)
  for image in range(2):
    for head in range(heads):
      channels = slice(head * 8 // heads, (head + 1) * 8 // heads)
      q, k, v = (part[image, ..., channels].reshape(20, -1) for part in np.split(qkv, 3, axis=-1))
      q, k = q / np.linalg.norm(q, axis=0), k / np.linalg.norm(k, axis=0)
      a = np.exp(q.T @ k * p['temperature'][head])
      result[image, ..., channels] = (v @ (a / a.sum(axis=1, keepdims=True)).T).reshape(4, 5, -1)
  expected = result @ p['project']['kernel'][0, 0]
  np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('norm', transposed_attention.NORMS)
def test_block_is_smooth_where_channels_vanish(norm):
  module = transposed_attention.TransformerBlock(heads=2, use_bias=True, norm=norm)
  x = normal(3, (1, 4, 4, 4))
  variables = initialised(module, x)
  for image in (jnp.zeros_like(x), x.at[..., 0].set(0)):
    gradients = jax.grad(lambda v, x: jnp.sum(jnp.square(module.apply(v, x))), (0, 1))(variables, image)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_bias_free_norm_keeps_the_mean():
  x = normal(4, (1, 2, 2, 6)) + 3
  module = transposed_attention.make_norm('bias_free')
  y = module.apply(module.init(jax.random.key(0), x), x)
  np.testing.assert_allclose(y, x / np.sqrt(np.var(x, axis=-1, keepdims=True) + 1e-5), rtol=1e-5)


def test_bfloat16_is_close():
  x = normal(5, (1, 6, 6, 8))
  exact = transposed_attention.TransformerBlock(heads=2)
  variables = initialised(exact, x)
  y = exact.clone(dtype=jnp.bfloat16).apply(variables, x)
  assert y.dtype == jnp.bfloat16 and exact.apply(variables, x).dtype == jnp.float32
  np.testing.assert_allclose(y.astype(jnp.float32), exact.apply(variables, x), atol=0.1, rtol=0.05)


def test_size_and_cost():
  c, hidden, pixels = 8, 21, 30
  block = transposed_attention.TransformerBlock()
  x = jax.ShapeDtypeStruct((1, 5, 6, c), jnp.float32)
  variables = jax.eval_shape(block.init, jax.random.key(0), x)
  kernels = c * 3 * c + 9 * 3 * c + c * c + c * 2 * hidden + 9 * 2 * hidden + hidden * c
  assert parameters(variables) == kernels + 4 * c + 1
  assert multiply_adds(block.apply, variables, x) == kernels * pixels


def test_wrong_settings():
  with pytest.raises(ValueError, match='8 channels, which 3 heads do not divide'):
    transposed_attention.TransposedAttention(3).init(jax.random.key(0), jnp.zeros((1, 2, 2, 8)))
  with pytest.raises(ValueError, match="norm of a transformer block, 'batch'; known norms: layer, bias_free"):
    transposed_attention.make_norm('batch')
