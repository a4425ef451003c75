"""lh_jax.models.convolution: accuracy, odd sizes, equal bits in aligned windows, the VAE that uses it, errors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.models import convolution
from lh_jax.models import vae


def normal(seed, shape):
  return jax.random.normal(jax.random.key(seed), shape, jnp.float32)


def arguments(shape, features, residual=True):
  c = shape[-1]
  norm, conv = (
    (normal(1, (c,)), normal(2, (c,))),
    (normal(3, (3, 3, c, features)) / (9 * c) ** 0.5, normal(4, (features,))),
  )
  return normal(0, shape), norm, conv, normal(5, (*shape[:3], features)) if residual else None


def run(method, *args):
  return np.asarray(jax.jit(functools.partial(convolution.norm_silu_conv, epsilon=1e-6, method=method))(*args))


def exact(x, norm, conv, residual):
  """The definition, in float64."""
  x, scale, bias, kernel, offset = (np.asarray(v, np.float64) for v in (x, *norm, *conv))
  h = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + bias
  h = np.pad(h / (1 + np.exp(-h)), ((0, 0), (1, 1), (1, 1), (0, 0)))
  rows, columns = x.shape[1:3]
  taps = [(i, j) for i in range(3) for j in range(3)]
  y = sum(h[:, i : i + rows, j : j + columns] @ kernel[i, j] for i, j in taps) + offset
  return y if residual is None else y + np.asarray(residual, np.float64)


@pytest.mark.parametrize('method', convolution.METHODS)
@pytest.mark.parametrize(
  'shape, features',
  [((1, 16, 16, 8), 8), ((2, 13, 18, 8), 5), ((1, 3, 2, 4), 4), ((1, 1, 9, 4), 4), ((3, 4, 4, 48), 12)],
)
def test_every_form_is_the_definition(method, shape, features):
  args = arguments(shape, features)
  np.testing.assert_allclose(run(method, *args), exact(*args), atol=1e-5)


def test_without_a_residual():
  args = arguments((1, 8, 12, 8), 8, residual=False)
  np.testing.assert_allclose(run('winograd', *args), exact(*args), atol=1e-5)


# XLA orders the sums of a norm otherwise below some 4000 pixels, so equal bits need strips and windows above that.
@pytest.mark.parametrize('size', [(96, 128), (101, 121)])
def test_strips_join_without_a_seam(monkeypatch, size):
  """Several strips an image, the last one overlapping, give the bits of one strip."""
  args = arguments((2, *size, 8), 8)
  whole = run('winograd', *args)
  monkeypatch.setattr(convolution, 'STRIP', 4096)
  np.testing.assert_array_equal(run('winograd', *args), whole)


@pytest.mark.parametrize('window', [(8, 12, 64, 72), (32, 0, 64, 128), (4, 4, 84, 100)])
def test_aligned_windows_have_equal_bits(window):
  top, left, height, width = window
  x, norm, conv, _ = arguments((1, 96, 128, 16), 16)
  whole = run('winograd', x, norm, conv, None)[:, top : top + height, left : left + width]
  part = run('winograd', x[:, top : top + height, left : left + width], norm, conv, None)
  np.testing.assert_array_equal(part[:, 1:-1, 1:-1], whole[:, 1:-1, 1:-1])


@pytest.mark.parametrize('method', ['winograd', 'auto'])
def test_vae_has_the_same_parameters_and_function(method):
  direct = vae.build(preset='tiny')
  fast = dataclasses.replace(direct, conv=method)
  params = direct.init(jax.random.key(0))
  assert jax.tree.structure(params) == jax.tree.structure(fast.init(jax.random.key(0)))
  jax.tree.map(np.testing.assert_array_equal, params, fast.init(jax.random.key(0)))
  params = jax.tree.map(lambda p: p + 0.1 * normal(p.size, p.shape), params)  # half the kernels start at zero
  image = jax.random.uniform(jax.random.key(1), (1, 24, 40, 3))
  mean = direct.encode(params['encoder'], image)[0]
  np.testing.assert_allclose(fast.encode(params['encoder'], image)[0], mean, atol=2e-5)
  np.testing.assert_allclose(fast.decode(params['decoder'], mean), direct.decode(params['decoder'], mean), atol=2e-5)


@pytest.mark.parametrize('options', [{'dtype': jnp.bfloat16}, {'norm': 'group'}])
def test_what_the_fast_form_does_not_do_stays_direct(options):
  direct = vae.build(preset='tiny', **options)
  params = direct.init(jax.random.key(0))
  image = jnp.full((1, 16, 16, 3), 0.5)
  fast = dataclasses.replace(direct, conv='winograd')
  np.testing.assert_array_equal(fast.encode(params['encoder'], image)[0], direct.encode(params['encoder'], image)[0])


def test_errors():
  x, norm, conv, residual = arguments((1, 8, 8, 4), 4)
  with pytest.raises(ValueError, match="unknown convolution method 'fft'; known methods: direct, winograd, auto"):
    convolution.norm_silu_conv(x, norm, conv, epsilon=1e-6, method='fft')
  with pytest.raises(ValueError, match='got bfloat16 activations; it takes float32'):
    convolution.norm_silu_conv(x.astype(jnp.bfloat16), norm, conv, epsilon=1e-6, method='auto')
  with pytest.raises(ValueError, match='kernel of shape .* for 3 channels'):
    convolution.norm_silu_conv(x[..., :3], norm, conv, epsilon=1e-6, method='auto')
