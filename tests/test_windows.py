"""Tiles give the whole image's result; a full memory or a non-finite window costs time, not the result."""

import logging
import threading
import time

from hypothesis import example, given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from lh_jax import inference
from lh_jax import windows

from tests.conftest import tiny_model


pytestmark = pytest.mark.usefixtures('windows_of_any_size')


@pytest.fixture(scope='module')
def restorer():
  return inference.Restorer(*tiny_model())


@pytest.fixture(scope='module')
def programs(restorer):
  return restorer.programs


@pytest.fixture(scope='module', params=[False, True], ids=['', 'linear path'])
def default_vae(request):
  return inference.Restorer(*tiny_model(vae={'preset': 'lh', 'linear_path': request.param}))


def image_of(size, dtype=np.float32):
  image = np.random.default_rng(size[0]).uniform(0, 1, (*size, 3)).astype(np.float32)
  return image if dtype == np.float32 else (image * np.iinfo(dtype).max).astype(dtype)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.integers(1, 220), st.integers(1, 220), st.integers(1, 90))
@example(1, 300, 1)
@example(259, 3, 40)
def test_tiled_equals_whole(restorer, height, width, tile):
  image = image_of((height, width))
  whole = restorer.run(image, tile='full')
  assert whole.window is None and whole.notes == ()
  tiled = restorer.run(image, tile=tile)
  assert tiled.image.shape == image.shape
  np.testing.assert_allclose(tiled.image, whole.image, atol=1e-5)
  cells, side = restorer.programs.geometry.cells(image.shape), -(-tile // 8) + 2 * restorer.programs.geometry.halo
  assert (tiled.window is None) == (max(cells) <= side)


@pytest.mark.parametrize('size, tile', [((200, 137), 1), ((136, 201), 40), ((1, 300), 8)])
def test_tiles_of_the_default_vae_give_the_same_bits(default_vae, size, tile):
  """Not one level of difference, which only equal bits can promise. (Eight channels, as the tiny VAE has, end rows in
  another loop of the compiled convolution than 48 and 64.)
  """
  image = image_of(size, np.uint8)
  tiled = default_vae.run(image, tile=tile)
  assert tiled.window is not None
  np.testing.assert_array_equal(tiled.image, default_vae.restore(image, tile='full'))


class Limited:
  """Programs of a device on which a window of more than `cells` cells does not fit."""

  def __init__(self, programs, cells, error, *, late=False):
    self._programs, self._cells, self._error, self._late = programs, cells, error, late

  def __getattr__(self, name):
    return getattr(self._programs, name)

  def get(self, stage, rows, columns, dtype=np.float32):
    if rows * columns > self._cells:
      if not self._late:
        raise self._error
      return windows.Program(lambda *_: (None, _Late(self._error)), 0)
    return self._programs.get(stage, rows, columns, dtype)


class _Late:
  """A result whose error shows when it is fetched, as of asynchronous devices."""

  def __init__(self, error):
    self._error = error

  def __bool__(self):
    raise self._error


OUT_OF_MEMORY = [
  RuntimeError('RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.'),
  RuntimeError('INTERNAL: Failed to determine best cudnn convolution algorithm for: ...'),
]


@pytest.mark.parametrize('error', OUT_OF_MEMORY)
@pytest.mark.parametrize('late', [False, True])
def test_a_full_memory_halves_the_tile_and_goes_on(programs, error, late, caplog):
  image = image_of((200, 136))
  run = windows.Run(image, Limited(programs, 18 * 17, error, late=late), None, window=(25, 17))
  shares = []
  run.watch(shares.append)
  with caplog.at_level(logging.WARNING, logger='lh_jax'):
    latent = run.encode(0.5)
  assert run.window == (18, 17)
  assert run.notes == ['memory ran out; going on with windows of 136x144 pixels']
  assert 'Memory ran out' in caplog.text
  whole = windows.Run(image, programs, None, window=(25, 17))
  np.testing.assert_allclose(latent, whole.encode(0.5), atol=1e-5)
  assert shares == sorted(shares) and shares[-1] == pytest.approx(windows.WORK['encode'])


def test_one_window_at_a_time_comes_before_smaller_ones(programs):
  """Of two windows at once the second does not fit."""
  busy = threading.Semaphore(1)

  class Crowded(Limited):
    def get(self, *arguments):
      program = self._programs.get(*arguments)

      def run(*values):
        if not busy.acquire(blocking=False):
          raise OUT_OF_MEMORY[0]
        try:
          return jax.block_until_ready(program.run(*values))
        finally:
          time.sleep(0.05)
          busy.release()

      return windows.Program(run, 0)

  image = image_of((200, 136))
  run = windows.Run(image, Crowded(programs, 0, None), None, window=(18, 17))
  latent = run.encode(0.5)
  assert run.window == (18, 17) and run.notes == ['memory ran out; going on with one window at a time']
  np.testing.assert_allclose(latent, windows.Run(image, programs, None, window=(25, 17)).encode(0.5), atol=1e-5)


def test_nothing_smaller_than_the_smallest_tile(programs):
  run = windows.Run(image_of((200, 136)), Limited(programs, 10, OUT_OF_MEMORY[0]), None, window=(25, 17))
  with pytest.raises(MemoryError, match='The smallest tile does not fit into memory'):
    run.encode(0.5)


def test_a_latent_that_does_not_fit_cannot_be_cut(programs):
  run = windows.Run(image_of((16, 24)), Limited(programs, 1, OUT_OF_MEMORY[1]), None, window=(2, 3))
  with pytest.raises(MemoryError, match='The latent of 3x2 cells does not fit into memory'):
    run.restore(np.zeros((1, 2, 3, 8), np.float32))


def test_other_errors_are_not_swallowed(programs):
  limited = Limited(programs, 1, ValueError('something else'))
  run = windows.Run(image_of((16, 24)), limited, None, window=(2, 3))
  for step in (lambda: run.encode(0.5), lambda: run.restore(np.zeros((1, 2, 3, 8), np.float32))):
    with pytest.raises(ValueError, match='something else'):
      step()


class Overflowing:
  """Programs with bfloat16 activations whose decoder overflows."""

  def __init__(self, programs):
    self._programs = programs
    self.exact = False

  def __getattr__(self, name):
    return getattr(self._programs, name)

  def get(self, stage, rows, columns, dtype=np.float32):
    program = self._programs.get(stage, rows, columns, dtype)
    if stage != 'decode':
      return program
    return windows.Program(lambda *arguments: (program.run(*arguments)[0] * np.nan, np.bool_(False)), 0)


def test_a_non_finite_window_is_computed_again_in_float32(programs, caplog):
  image = image_of((200, 136))
  run = windows.Run(image, Overflowing(programs), lambda: programs, window=(17, 17))
  with caplog.at_level(logging.WARNING, logger='lh_jax'):
    restored = run.decode(run.restore(run.encode(0.5)), 0.5)
  expected = windows.Run(image, programs, None, window=(17, 17))
  np.testing.assert_array_equal(restored, expected.decode(expected.restore(expected.encode(0.5)), 0.5))
  assert run.notes == ['decode: non-finite values in bfloat16, computed again in float32']
  assert caplog.text.count('computed again in float32') == 1


def test_progress_runs_from_nothing_to_all(restorer):
  shares = []
  restorer.run(image_of((200, 136)), tile=40, progress=shares.append)
  assert shares == sorted(shares) and shares[0] > 0.0 and shares[-1] == pytest.approx(1.0)
