"""lh_jax.profile: which steps are traced, and that a trace appears."""

import jax
import jax.numpy as jnp
import pytest

from lh_jax import profile


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
  assert (traced[0], traced[-1]) == expected and len(traced) == expected[1] - expected[0] + 1 and not tracing


def test_nothing_is_traced_unasked(monkeypatch):
  monkeypatch.setattr(jax.profiler, 'start_trace', lambda folder: pytest.fail('traced'))
  with profile.Profiler(None, first=1, last=3) as profiler:
    for number in range(1, 4):
      with profiler.step(number, 'stage'):
        pass


def test_a_trace(tmp_path):
  with profile.Profiler(tmp_path / 'profile', first=1, last=2) as profiler:
    for number in (1, 2):
      with profiler.step(number, 'stage'):
        jax.block_until_ready(jnp.ones(3) * number)
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))
