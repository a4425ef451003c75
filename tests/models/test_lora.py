"""lh_jax.models.lora: the merged kernel is the convolution branch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.models import lora
from lh_jax.models import vae


def conv(x, kernel, *, stride=1):
  return jax.lax.conv_general_dilated(x, kernel, (stride, stride), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


@pytest.mark.parametrize('stride', [1, 2])
def test_merged_kernel_equals_the_branch(stride):
  """W x + scale (alpha / r) B (A x), the branch run as two convolutions."""
  keys = jax.random.split(jax.random.key(0), 4)
  kernel = jax.random.normal(keys[0], (3, 3, 5, 6))
  down, up = jax.random.normal(keys[1], (3, 3, 5, 2)), jax.random.normal(keys[2], (2, 6))
  x = jax.random.normal(keys[3], (2, 9, 8, 5))
  merged = lora.merge({'c': {'kernel': kernel}}, {'c': {'down': down, 'up': up}}, 0.7, alpha=4.0)['c']['kernel']
  branch = conv(conv(x, down, stride=stride), up.reshape(1, 1, 2, 6))
  expected = conv(x, kernel, stride=stride) + 0.7 * (4.0 / 2) * branch
  np.testing.assert_allclose(conv(x, merged, stride=stride), expected, rtol=1e-5, atol=2e-5)


def test_fresh_branches_and_scale_zero_change_nothing():
  params = vae.build(preset='tiny').init(jax.random.key(0))['encoder']
  branch = lora.init(jax.random.key(1), params, rank=4)
  jax.tree.map(np.testing.assert_array_equal, lora.merge(params, branch, 1.0, alpha=8.0), params)
  trained = jax.tree.map(jnp.ones_like, branch)
  assert lora.is_zero(branch) and not lora.is_zero(trained)
  jax.tree.map(np.testing.assert_array_equal, lora.merge(params, trained, 0.0, alpha=8.0), params)


def test_alpha_is_traced():
  """One compiled program serves every strength."""
  params = {'c': {'kernel': jnp.zeros((3, 3, 1, 1))}}
  branch = {'c': {'down': jnp.ones((3, 3, 1, 1)), 'up': jnp.ones((1, 1))}}
  merge = jax.jit(lambda scale: lora.merge(params, branch, scale, alpha=1.0)['c']['kernel'])
  assert float(merge(0.25)[0, 0, 0, 0]) == 0.25 and float(merge(0.5)[0, 0, 0, 0]) == 0.5
  assert merge._cache_size() == 1


@pytest.mark.parametrize('rank, encoder, decoder', [(2, 10_102, 12_518), (8, 40_408, 50_072), (16, 80_816, 100_144)])
def test_parameter_counts(rank, encoder, decoder):
  """Preset lh_conv: 14 and 16 adapted convolutions; (9 C_in + C_out) r parameters each."""
  model = vae.build(preset='lh_conv')
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  for name, count, number in (('encoder', encoder, 14), ('decoder', decoder, 16)):
    assert len(lora.targets(shapes[name])) == number
    tree = jax.eval_shape(lambda key, name=name: lora.init(key, shapes[name], rank=rank), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == count


def test_initial_range():
  branch = lora.init(jax.random.key(0), {'c': {'kernel': jnp.zeros((3, 3, 8, 4))}}, rank=64)
  down = np.asarray(branch['c']['down'])
  bound = 72**-0.5
  assert np.abs(down).max() <= bound and np.abs(down).max() > 0.95 * bound
  assert not np.asarray(branch['c']['up']).any()


def test_errors():
  params = {'c': {'kernel': jnp.zeros((1, 1, 2, 2))}}
  with pytest.raises(ValueError, match='lora.min_kernel=3'):
    lora.init(jax.random.key(0), params, rank=1)
  with pytest.raises(ValueError, match='lora.rank must be at least 1, got 0'):
    lora.init(jax.random.key(0), params, rank=0, min_kernel=1)
  with pytest.raises(ValueError, match='adapts other/c.*another model'):
    lora.merge(params, {'other': {'c': {'down': jnp.zeros((1, 1, 2, 1)), 'up': jnp.zeros((1, 2))}}}, 1.0, alpha=1.0)
