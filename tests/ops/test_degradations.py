"""Every degradation: range, determinism, severity, sizes; and the choice among them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.data import sources
from lh_jax.ops import degradations
from lh_jax.ops import weather

TASKS = degradations.TASKS
BENCHMARK = degradations.BENCHMARK
ALL = (*BENCHMARK, 'identity')
ONE = jnp.float32(1.0)


@functools.cache
def _jitted(task: str):
  return jax.jit(degradations.DEGRADATIONS[task])


@pytest.fixture(scope='module')
def photograph() -> jax.Array:
  """A face with fine and coarse detail, (72, 96, 3)."""
  return jnp.asarray(sources.embedded(split='test')[0]['clean'][60:132, 150:246], jnp.float32) / 255


def _psnr(a, b) -> float:
  return float(-10 * jnp.log10(jnp.mean((a - b) ** 2)))


def test_names_are_the_papers_tasks_in_order():
  assert TASKS == ('low_light', 'haze', 'blur', 'rain', 'snow', 'noise15', 'noise25', 'noise50')


def test_the_benchmark_adds_what_the_paper_tests_on_unseen():
  assert BENCHMARK == (*TASKS, 'moire', 'low_light+noise25', 'haze+low_light', 'noise25+blur')
  assert set(degradations.DEGRADATIONS) == set(ALL)


def test_the_strength_of_every_task_is_told():
  assert tuple(degradations.STRENGTHS) == BENCHMARK
  for task, density in (
    ('rain', [row[2] for row in weather.RAIN_LAYERS]),
    ('snow', [r[1] for r in weather.SNOW_LAYERS]),
  ):
    assert degradations.STRENGTHS[task].startswith(f'{sum(density):g} ')


@pytest.mark.parametrize('task', BENCHMARK)
def test_range_type_and_determinism(task, photograph):
  degrade = _jitted(task)
  first, again, other = (degrade(jax.random.key(k), photograph, ONE) for k in (0, 0, 1))
  assert first.shape == photograph.shape and first.dtype == jnp.float32
  assert 0.0 <= first.min() and first.max() <= 1.0
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize('task', [task for task in BENCHMARK if 'noise' not in task])
@pytest.mark.parametrize('seed', range(3))
def test_severity_is_monotone_from_nothing_to_plenty(task, seed, photograph):
  key = jax.random.key(seed)
  degraded = [_jitted(task)(key, photograph, jnp.float32(s)) for s in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)]
  np.testing.assert_allclose(degraded[0], photograph, atol=1e-4)
  scores = [_psnr(image, photograph) for image in degraded[1:]]
  assert all(worse < better for better, worse in zip(scores, scores[1:])), scores
  assert scores[-1] < 26.0, scores


@pytest.mark.parametrize('task', ALL)
@pytest.mark.parametrize('size', [(8, 8), (9, 23)])
def test_tiny_and_odd_sizes(task, size):
  image = jax.random.uniform(jax.random.key(0), (*size, 3))
  degraded = np.asarray(_jitted(task)(jax.random.key(1), image, ONE))
  assert degraded.shape == image.shape and np.isfinite(degraded).all()
  assert 0.0 <= degraded.min() and degraded.max() <= 1.0


@pytest.mark.parametrize('task', [*TASKS, 'moire'])
def test_jit_is_no_jit(task, photograph):
  key, severity = jax.random.key(2), jnp.float32(0.7)
  plain = degradations.DEGRADATIONS[task](key, photograph, severity)
  np.testing.assert_allclose(plain, _jitted(task)(key, photograph, severity), atol=1e-4)


@pytest.mark.parametrize(('task', 'level'), [('noise15', 15), ('noise25', 25), ('noise50', 50)])
@pytest.mark.parametrize('severity', [0.0, 0.5, 1.0])
def test_noise_has_its_level_at_any_severity(task, level, severity):
  grey = jnp.full((64, 64, 3), 0.5)
  difference = _jitted(task)(jax.random.key(0), grey, jnp.float32(severity)) - grey
  np.testing.assert_allclose(difference.std() * 255, level, rtol=0.03)


@pytest.mark.parametrize('task', degradations.COMPOSITES)
def test_composites_are_their_parts_one_after_the_other(task, photograph):
  key, image = jax.random.key(4), photograph
  for place, part in enumerate({'noise25+blur': ('blur', 'noise25')}.get(task, tuple(task.split('+')))):
    image = _jitted(part)(jax.random.fold_in(key, place), image, jnp.float32(0.6))
  np.testing.assert_allclose(_jitted(task)(key, photograph, jnp.float32(0.6)), image, atol=1e-4)


def test_low_light_is_dark_and_noisier_in_relation():
  grey = jnp.full((64, 64, 3), 0.5)
  dark = _jitted('low_light')(jax.random.key(0), grey, ONE)
  assert dark.mean() < 0.2
  assert 0.01 < dark.std() / dark.mean() < 0.5


def test_the_number_chooses_the_task_and_numbers_outside_are_clamped(photograph):
  key = jax.random.key(0)
  tasks = ('haze', 'noise25', 'identity')
  degrade = jax.jit(functools.partial(degradations.degrade, tasks=tasks))
  for number, task in enumerate(tasks):
    np.testing.assert_allclose(degrade(key, photograph, number, ONE), _jitted(task)(key, photograph, ONE), atol=1e-4)
  np.testing.assert_array_equal(degrade(key, photograph, 2, ONE), photograph)
  np.testing.assert_array_equal(degrade(key, photograph, 7, ONE), photograph)


def test_a_batch_is_its_samples(photograph):
  number = jnp.arange(len(ALL))
  keys = jax.random.split(jax.random.key(5), len(ALL))
  images = jnp.stack([jnp.roll(photograph, 7 * i, axis=1) for i in range(len(ALL))])
  severities = jnp.linspace(0.2, 1.0, len(ALL))
  degrade_batch = jax.jit(functools.partial(degradations.degrade_batch, tasks=ALL))
  batch = degrade_batch(keys, images, number, severities)
  for i, task in enumerate(ALL):
    np.testing.assert_allclose(batch[i], _jitted(task)(keys[i], images[i], severities[i]), atol=1e-4)
  # The other samples have no influence at all.
  turned = degrade_batch(keys.at[1:].set(keys[0]), images.at[1:].set(0.0), number.at[1:].set(0), severities)
  np.testing.assert_array_equal(turned[0], batch[0])


@pytest.mark.parametrize(
  ('tasks', 'message'),
  [
    (
      ('haze', 'fog', 'hail'),
      r'unknown degradation\(s\) fog, hail; known: low_light, haze, .*noise50, moire, .*, identity',
    ),
    ((), 'no degradation is named; known: low_light'),
  ],
)
def test_unknown_names_are_errors(tasks, message):
  image, zero = jnp.zeros((8, 8, 3)), jnp.int32(0)
  with pytest.raises(ValueError, match=message):
    degradations.degrade(jax.random.key(0), image, zero, ONE, tasks=tasks)
  with pytest.raises(ValueError, match=message):
    degradations.degrade_batch(jax.random.split(jax.random.key(0), 1), image[None], zero[None], ONE[None], tasks=tasks)


def test_gaussian_noise_has_a_strength_for_each_image():
  images = jnp.full((3, 64, 64, 3), 0.5)
  noisy = degradations.gaussian_noise(jax.random.key(0), images, jnp.array([0.0, 0.05, 0.15]))
  np.testing.assert_array_equal(noisy[0], images[0])
  np.testing.assert_allclose((noisy - images).std(axis=(1, 2, 3))[1:], [0.05, 0.15], rtol=0.03)
  loud = degradations.gaussian_noise(jax.random.key(0), images, jnp.full((3,), 2.0))
  assert loud.min() == 0.0 and loud.max() == 1.0
