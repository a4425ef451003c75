"""AdamW or Muon, with warm-up, cosine decay and gradient clipping, and every option checked for its unit.

The learning rate is a function of the step that the state carries, never of a counter inside the optimizer: with
several optimizers in alternation, such a counter means something different in each.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

METHODS = ('adamw', 'muon')
# Muon takes kernels with at least so many channels on both sides; a matrix of fewer has hardly a spectrum to even out.
MUON_CHANNELS = 4
# Root mean square of Muon's updates before the learning rate: that of Adam's in practice, so that one learning rate
# and one weight decay do for both (Liu et al., "Muon is Scalable for LLM Training", arXiv:2502.16982, Sec. 2.2).
MUON_RMS = 0.2


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """One network's optimizer; a section of config.optim is splatted into it.

  Attributes:
    method: 'adamw', the paper's; or 'muon', which steps along the orthogonalised momentum of a kernel as a matrix from
      its window and input channels to its output channels (Jordan et al., "Muon: An optimizer for hidden layers in
      neural networks", 2024), and with AdamW where there is none: biases, norms, depthwise kernels, kernels from or to
      RGB. Both with Nesterov's momentum.
    learning_rate: peak learning rate.
    final_learning_rate: learning rate at the end of the cosine.
    warmup_steps: steps of linear warm-up from zero, an integer.
    b1: first moment's decay, in [0, 1); of AdamW: Muon's momentum is 0.95.
    b2: second moment's decay, in [0, 1).
    weight_decay: AdamW's decoupled weight decay, on every parameter as in PyTorch; 0 is plain Adam.
    clip_norm: largest global norm of the gradient; 0 does not clip.
    first_step: the step at which this optimizer's schedule starts.
    last_step: the step at which it ends.
  """

  learning_rate: float
  final_learning_rate: float
  warmup_steps: int
  b1: float
  b2: float
  weight_decay: float
  clip_norm: float
  first_step: int
  last_step: int
  method: str = 'adamw'

  def __post_init__(self):
    if self.method not in METHODS:
      raise ValueError(f'Unknown method of optimization {self.method!r}; known: {METHODS}.')
    if not isinstance(self.warmup_steps, int) or isinstance(self.warmup_steps, bool) or self.warmup_steps < 0:
      raise ValueError(f'warmup_steps counts steps: it must be an integer >= 0, got {self.warmup_steps!r}.')
    for name in ('b1', 'b2'):
      if not 0.0 <= getattr(self, name) < 1.0:
        raise ValueError(f'{name} must lie in [0, 1), got {getattr(self, name)}.')
    for name in ('learning_rate', 'final_learning_rate', 'weight_decay', 'clip_norm'):
      value = getattr(self, name)
      if not isinstance(value, numbers.Real) or not math.isfinite(value) or value < 0:
        raise ValueError(f'{name} must be a finite number >= 0, got {value!r}.')

  @property
  def _transform(self) -> optax.GradientTransformation:
    clip = optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else optax.identity()
    direction = optax.scale_by_adam(b1=self.b1, b2=self.b2)
    if self.method == 'muon':
      # The learning rate and the decay are ours: optax's are off.
      muon = optax.contrib.muon(
        1.0,
        adam_b1=self.b1,
        adam_b2=self.b2,
        consistent_rms=MUON_RMS,
        muon_weight_dimension_numbers=_matrices,
      )
      direction = optax.chain(muon, optax.scale(-1.0))
    return optax.chain(clip, direction, optax.add_decayed_weights(self.weight_decay))

  def schedule(self, step: jax.Array) -> jax.Array:
    """Returns the learning rate at a step of the stage."""
    done = jnp.asarray(step, jnp.float32) - self.first_step
    span = max(self.last_step - self.first_step - self.warmup_steps, 1)
    progress = jnp.clip((done - self.warmup_steps) / span, 0.0, 1.0)
    cosine = self.final_learning_rate + 0.5 * (self.learning_rate - self.final_learning_rate) * (
      1.0 + jnp.cos(jnp.pi * progress)
    )
    warmup = jnp.minimum(1.0, (done + 1.0) / max(self.warmup_steps, 1))
    return cosine * warmup

  def init(self, params: Any) -> Any:
    """Returns the optimizer's state for `params`."""
    return self._transform.init(params)

  @jax.named_scope('optimizer')
  def update(
    self, grads: Any, opt_state: Any, params: Any, *, step: jax.Array
  ) -> tuple[Any, Any, dict[str, jax.Array]]:
    """Takes one step.

    Returns:
      New parameters, new optimizer state, and the metrics 'grad_norm' (before clipping) and 'learning_rate'.
    """
    learning_rate = self.schedule(step)
    updates, opt_state = self._transform.update(grads, opt_state, params)
    params = jax.tree.map(lambda p, u: p - learning_rate * u, params, updates)
    return params, opt_state, {'grad_norm': optax.tree.norm(grads), 'learning_rate': learning_rate}


def _matrices(params: Any) -> Any:
  """Which parameters are matrices to Muon, and which of their axes are one side, which the other; None for the rest."""

  def matrix(param: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
    if param.ndim < 2 or min(param.shape[-2:]) < MUON_CHANNELS:
      return None
    return optax.contrib.MuonDimensionNumbers(tuple(range(param.ndim - 1)), (param.ndim - 1,))

  return jax.tree.map(matrix, params)
