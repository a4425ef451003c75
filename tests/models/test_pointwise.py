"""The GELU against JAX's, the 1x1 convolution against XLA's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lh_jax.models import pointwise


def test_gelu_and_its_derivative():
  x = jnp.linspace(-12.0, 12.0, 4001)
  for a, b in zip(
    *(jax.vmap(jax.value_and_grad(f))(x) for f in (pointwise.gelu, lambda x: nn.gelu(x, approximate=False)))
  ):
    np.testing.assert_allclose(a, b, atol=2e-6)
  low = x.astype(jnp.bfloat16)
  np.testing.assert_array_equal(pointwise.gelu(low), nn.gelu(low, approximate=False))


def test_the_convolution_as_a_product():
  x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
  module = pointwise.Pointwise(6)
  variables = module.init(jax.random.key(1), x)
  assert variables['params']['kernel'].shape == (1, 1, 4, 6)
  np.testing.assert_allclose(module.apply(variables, x), nn.Conv(6, (1, 1)).apply(variables, x), atol=1e-6)


def test_bare_weights():
  kernel, bias = pointwise.Weights((1, 1, 2, 3), jnp.bfloat16, use_bias=False).init_with_output(jax.random.key(0))[0]
  assert kernel.dtype == bias.dtype == jnp.bfloat16 and not bias.any()
