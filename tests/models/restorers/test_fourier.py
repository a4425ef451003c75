"""The Fourier unit against convolutions in the usual order of axes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.models import layers
from lh_jax.models.restorers import fourier


def normal(seed, shape):
  return jax.random.normal(jax.random.key(seed), shape)


def plain_unit(params, x, groups):
  """The unit with norm 'none', by XLA's convolutions on (B, h, w, C)."""
  b, h, w, c = x.shape
  plane = jnp.fft.rfft2(x, axes=(1, 2), norm='ortho')
  f = jnp.stack([plane.real, plane.imag], axis=-1).reshape(b, h, -1, 2 * c)
  f = (
    f
    + layers.depthwise_conv(f, params['position']['kernel'], method='conv')
    + params['position']['bias'].reshape(1, 1, 1, -1)
  )
  gates = nn.softmax(nn.Conv(groups, (1, 1)).apply({'params': params['gates']}, f), axis=-1)
  filters = nn.Conv(2 * c * groups, (1, 1), feature_group_count=groups)
  f = filters.apply({'params': params['filters']}, f).reshape(b, h, -1, groups, 2 * c)
  f = nn.gelu(jnp.sum(gates[..., None] * f, axis=3), approximate=False).reshape(b, h, -1, c, 2)
  return jnp.fft.irfft2(jax.lax.complex(f[..., 0], f[..., 1]), s=(h, w), axes=(1, 2), norm='ortho')


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('size', [(5, 6), (1, 1), (4, 1)])
def test_unit_and_its_gradients(groups, size):
  module = fourier.FourierUnit(groups=groups, norm='none', dtype=jnp.float32)
  x, weight = normal(0, (2, *size, 4)), normal(1, (2, *size, 4))
  params = module.init(jax.random.key(2), x, train=True)['params']
  params = jax.tree.map(lambda p: p + 0.3 * normal(3, p.shape), params)

  def both(unit):
    def loss(params, x):
      y = unit(params, x)
      return jnp.sum(weight * y), y

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, x)

  ours = both(lambda params, x: module.apply({'params': params}, x, train=True))
  plain = both(lambda params, x: plain_unit(params, x, groups))
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-5)
