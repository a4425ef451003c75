"""lh_jax.state: random streams and the moving average."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import state


def test_streams_differ_by_seed_name_and_step_and_repeat():
  keys = [state.stream_key(*arguments) for arguments in ((0, 'a', 0), (1, 'a', 0), (0, 'b', 0), (0, 'a', 1))]
  draws = [float(jax.random.uniform(key)) for key in keys]
  assert len(set(draws)) == 4
  traced = jax.jit(lambda step: jax.random.uniform(state.stream_key(0, 'a', step)))(jnp.int32(1))
  assert float(traced) == draws[3]


def test_ema():
  """Warm-up: the first decay is 1/10, so the first value dominates; later the decay is the configured one."""
  ema, params = {'w': jnp.zeros(2)}, {'w': jnp.ones(2)}
  np.testing.assert_allclose(state.update_ema(ema, params, decay=0.999, step=jnp.int32(0))['w'], 0.9, rtol=1e-6)
  np.testing.assert_allclose(state.update_ema(ema, params, decay=0.9, step=jnp.int32(10**6))['w'], 0.1, rtol=1e-6)
  assert float(state.update_ema(params, params, decay=0.9, step=jnp.int32(3))['w'][0]) == pytest.approx(1.0)
