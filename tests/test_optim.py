"""lh_jax.optim: the schedule, one step of AdamW and of Muon by hand, units."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lh_jax import optim

OPTIMIZER = optim.Optimizer(
  learning_rate=1e-3,
  final_learning_rate=1e-5,
  warmup_steps=10,
  b1=0.9,
  b2=0.99,
  weight_decay=0.1,
  clip_norm=1.0,
  first_step=100,
  last_step=210,
)


def test_schedule():
  """Linear warm-up from step 100, half way down the cosine at 160, the end at 210 and after."""
  rates = [float(OPTIMIZER.schedule(step)) for step in (100, 104, 109, 110, 160, 210, 500)]
  np.testing.assert_allclose(rates, [1e-4, 5e-4, 1e-3, 1e-3, (1e-3 + 1e-5) / 2, 1e-5, 1e-5], rtol=1e-5)


def test_first_step_by_hand():
  """Adam's first update is the gradient's sign.

  AdamW adds decay; both are scaled by the learning rate of the given step.
  """
  params, grads = {'w': jnp.asarray([2.0, -2.0])}, {'w': jnp.asarray([0.1, -0.3])}
  updated, _, metrics = OPTIMIZER.update(grads, OPTIMIZER.init(params), params, step=110)
  np.testing.assert_allclose(updated['w'], [2.0 - 1e-3 * (1.0 + 0.2), -2.0 + 1e-3 * (1.0 + 0.2)], rtol=1e-6)
  assert float(metrics['grad_norm']) == pytest.approx(np.hypot(0.1, 0.3), rel=1e-6)
  assert float(metrics['learning_rate']) == pytest.approx(1e-3)


def test_equals_optax_adamw_with_clipping():
  optimizer = dataclasses.replace(OPTIMIZER, warmup_steps=0, final_learning_rate=1e-3, first_step=0)
  reference = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, b1=0.9, b2=0.99, weight_decay=0.1))
  params = expected = {'w': jnp.asarray([1.0, 2.0, 3.0])}
  state, reference_state = optimizer.init(params), reference.init(params)
  for step, scale in enumerate((5.0, 0.1, -3.0)):
    grads = {'w': scale * jnp.asarray([1.0, -1.0, 2.0])}
    params, state, _ = optimizer.update(grads, state, params, step=step)
    updates, reference_state = reference.update(grads, reference_state, expected)
    expected = optax.apply_updates(expected, updates)
  np.testing.assert_allclose(params['w'], expected['w'], rtol=1e-6)


def test_no_clipping():
  optimizer = dataclasses.replace(OPTIMIZER, clip_norm=0.0)
  params = {'w': jnp.asarray([1.0])}
  assert np.isfinite(
    optimizer.update({'w': jnp.asarray([1e9])}, optimizer.init(params), params, step=110)[0]['w']
  ).all()


def test_first_step_of_muon():
  """A kernel of 3 x 3 pixels moves by an orthogonal matrix, of the size that Adam's step has; what is no matrix by
  Adam's sign.
  """
  optimizer = dataclasses.replace(OPTIMIZER, method='muon', weight_decay=0.0)
  rng = np.random.default_rng(0)
  shapes = {'kernel': (3, 3, 8, 16), 'depthwise': (3, 3, 1, 8), 'image': (3, 3, 8, 3), 'bias': (16,)}
  grads = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
  params = {name: jnp.zeros(shape) for name, shape in shapes.items()}
  moved, _, metrics = optimizer.update(grads, optimizer.init(params), params, step=110)
  step = {name: -np.asarray(value) / float(metrics['learning_rate']) for name, value in moved.items()}
  values = np.linalg.svd(step['kernel'].reshape(-1, 16), compute_uv=False) / (optim.MUON_RMS * np.sqrt(72))
  # Five Newton-Schulz iterations bring singular values near 1, not to 1.
  np.testing.assert_allclose(values, 1.0, atol=0.35)
  assert float(jnp.sum(step['kernel'] * grads['kernel'])) > 0.0
  for name in ('depthwise', 'image', 'bias'):
    # Nesterov's momentum looks one gradient ahead: the first step is longer than the sign.
    np.testing.assert_array_equal(np.sign(step[name]), np.sign(grads[name]))
    np.testing.assert_allclose(np.abs(step[name]), np.abs(step[name]).max(), rtol=1e-3)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'method': 'sgd'}, r"Unknown method of optimization 'sgd'; known: \('adamw', 'muon'\)"),
    ({'warmup_steps': 0.1}, 'warmup_steps counts steps: it must be an integer >= 0, got 0.1'),
    ({'warmup_steps': -1}, 'warmup_steps'),
    ({'b2': 1.0}, r'b2 must lie in \[0, 1\), got 1.0'),
    ({'learning_rate': -1e-3}, 'learning_rate must be a finite number >= 0'),
    ({'clip_norm': float('nan')}, 'clip_norm must be a finite number >= 0, got nan'),
  ],
)
def test_errors(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(OPTIMIZER, **change)
