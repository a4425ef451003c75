"""lh_jax.profile: which steps are traced, and that a trace appears."""

import jax
import jax.numpy as jnp
import pytest

from lh_jax import networks as networks_lib
from lh_jax import profile
from lh_jax.stages import build


@pytest.mark.parametrize(
  'first, last, expected', [(1, 100, (6, 10)), (41, 100, (46, 50)), (1, 7, (3, 7)), (1, 3, (1, 3)), (9, 9, (9, 9))]
)
def test_the_steps_that_are_traced(first, last, expected, tmp_path, monkeypatch):
  traced, tracing = [], []
  monkeypatch.setattr(jax.profiler, 'start_trace', lambda folder: tracing.append(folder))
  monkeypatch.setattr(jax.profiler, 'stop_trace', tracing.pop)
  with profile.Profiler(tmp_path, first=first, last=last) as profiler:
    for number in range(first, last + 1):
      with profiler.step(number, 'stage'):
        traced += [number] if tracing else []
      profiler.ended(number, None)
  assert (traced[0], traced[-1]) == expected and len(traced) == expected[1] - expected[0] + 1 and not tracing


def test_nothing_is_traced_unasked(monkeypatch):
  monkeypatch.setattr(jax.profiler, 'start_trace', lambda folder: pytest.fail('traced'))
  with profile.Profiler(None, first=1, last=3) as profiler:
    for number in range(1, 4):
      with profiler.step(number, 'stage'):
        pass


@jax.jit
def slow(x):
  return jax.lax.fori_loop(0, 20_000, lambda _, y: y @ x / 64, x)


def test_a_trace_waits_for_what_it_traces(tmp_path):
  with profile.Profiler(tmp_path / 'profile', first=1, last=2) as profiler:
    for number in (1, 2):
      with profiler.step(number, 'stage'):
        outputs = slow(jnp.ones((64, 64)) * number)
      profiler.ended(number, outputs)
      assert outputs.is_ready() == (number == 2) or number == 1
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))


def test_a_trace_tells_the_parts_of_a_step_apart(tiny_config):
  networks = networks_lib.build({name: tiny_config[name].to_dict() for name in networks_lib.SECTIONS})
  stage = build.build('stage1', tiny_config, networks)
  state = jax.eval_shape(stage.init, jax.random.key(0))
  frozen = {'foundation': jax.eval_shape(build.foundation(tiny_config, 'stage1').init, jax.random.key(0))}
  image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
  step = jax.jit(stage.steps['scale_0.5']).lower(state, frozen, {'clean': image, 'degraded': image})
  text = step.as_text(debug_info=True)
  for name in ('pdps', 'equivariance', 'invariance', 'optimizer', 'Encoder', 'Decoder'):
    assert name in text, name
