"""The GELU against JAX's, the 1x1 convolution against XLA's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def test_product_and_its_derivatives():
  """Those of x @ kernel, each in the dtype of what it is the derivative of."""
  keys = jax.random.split(jax.random.key(0), 3)
  x, kernel = jax.random.normal(keys[0], (2, 3, 5, 4)), jax.random.normal(keys[1], (4, 6))
  gradient = jax.random.normal(keys[2], (2, 3, 5, 6))
  found, back = jax.vjp(pointwise.product, x, kernel)
  expected, expected_back = jax.vjp(lambda x, kernel: jnp.einsum('bhwc,cf->bhwf', x, kernel), x, kernel)
  for a, b in zip((found, *back(gradient)), (expected, *expected_back(gradient))):
    np.testing.assert_allclose(a, b, atol=1e-5)
  low = jax.grad(lambda x, kernel: jnp.sum(pointwise.product(x, kernel)), (0, 1))(x.astype(jnp.bfloat16), kernel)
  assert [array.dtype for array in low] == [jnp.bfloat16, jnp.float32]


def test_scale_in_the_kernel_is_scale_after_it():
  keys = jax.random.split(jax.random.key(0), 4)
  x, scale = jax.random.normal(keys[0], (2, 5, 4)), jax.random.normal(keys[1], (6,))
  module = pointwise.ScaledPointwise(6, kernel_size=())
  params = module.init(keys[2], x, scale)['params'] | {'bias': jax.random.normal(keys[3], (6,))}
  assert params['kernel'].shape == (4, 6) and module.multiply_adds(x, scale) == 2 * 5 * 4 * 6

  def folded(params, scale):
    return module.apply({'params': params}, x, scale)

  def after(params, scale):
    return scale.reshape(1, 1, -1) * nn.Dense(6).apply({'params': params}, x)

  loss = lambda f: lambda *arguments: jnp.sum(jnp.sin(f(*arguments)))
  for function in (lambda f: f, lambda f: jax.grad(loss(f), (0, 1))):
    found, expected = (function(f)(params, scale) for f in (folded, after))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)
  np.testing.assert_allclose(folded(params, None), nn.Dense(6).apply({'params': params}, x), atol=1e-6)
  low = pointwise.ScaledPointwise(6, kernel_size=(), dtype=jnp.bfloat16).apply({'params': params}, x, scale)
  assert low.dtype == jnp.bfloat16
  np.testing.assert_allclose(low.astype(jnp.float32), after(params, scale), atol=0.1)


def test_what_they_do_not_do_is_refused():
  x = jnp.zeros((1, 4, 4, 2))
  for options in ({'strides': (2, 2)}, {'kernel_size': (3, 3)}, {'padding': 1}, {'precision': 'highest'}):
    with pytest.raises(ValueError, match='Pointwise is a plain 1x1 convolution'):
      pointwise.Pointwise(6, **options).init(jax.random.key(0), x)
  with pytest.raises(ValueError, match='Dense computes in the default precision'):
    pointwise.Dense(6, precision='highest').init(jax.random.key(0), x)


def test_bare_weights():
  kernel, bias = pointwise.Weights((1, 1, 2, 3), jnp.bfloat16, use_bias=False).init_with_output(jax.random.key(0))[0]
  assert kernel.dtype == bias.dtype == jnp.bfloat16 and not bias.any()
