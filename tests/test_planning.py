"""The window is chosen from what compiled programs say they take and from what is free."""

import numpy as np
import pytest

from lh_jax import memory
from lh_jax import planning
from lh_jax import programs as programs_lib

from tests.conftest import tiny_model


@pytest.fixture(scope='module')
def programs():
  return programs_lib.Programs(*tiny_model())


def choose(programs, cells, tile='auto', max_memory=None):
  return planning.choose_window(programs, cells, np.uint8, tile=tile, max_memory=max_memory)


def test_full_and_pixels(programs):
  halo = programs.geometry.halo
  assert choose(programs, (60, 90), 'full') == (60, 90)
  assert choose(programs, (60, 90), 8 * 30) == (30 + 2 * halo, 30 + 2 * halo)
  assert choose(programs, (60, 90), np.int64(8 * 30 - 7)) == (30 + 2 * halo, 30 + 2 * halo)
  assert choose(programs, (60, 90), 8 * 70) == (60, 70 + 2 * halo)


@pytest.mark.parametrize(
  'cells, window', [((60, 90), (20, 20)), ((3, 300), (3, 128)), ((300, 3), (128, 3)), ((3, 9), (3, 9))]
)
def test_windows_are_not_so_small_that_bits_differ(programs, cells, window):
  """At least MIN_CELLS, or the whole image."""
  assert choose(programs, cells, 1) == window


def test_max_memory_is_for_auto(programs):
  with pytest.raises(ValueError, match="max_memory chooses the tile, so it needs tile='auto'; got tile='full' beside"):
    choose(programs, (6, 9), 'full', max_memory=2**30)


def test_auto_takes_the_whole_image_where_it_fits(programs):
  assert choose(programs, (20, 30)) == (20, 30)


def test_auto_keeps_below_the_memory_that_is_allowed(programs):
  whole = programs.get('decode', 40, 44, np.uint8).bytes
  window = choose(programs, (40, 44), max_memory=int(0.7 * whole))
  assert window[0] * window[1] < 40 * 44
  for stage in ('encode', 'decode'):
    assert programs.get(stage, *window, np.uint8).bytes <= 0.7 * whole
  smallest = choose(programs, (60, 90), max_memory=whole)
  assert planning.MIN_CELLS <= smallest[0] * smallest[1] < 40 * 44


def test_auto_looks_at_what_is_free(programs, monkeypatch):
  whole = programs.get('decode', 40, 44, np.uint8).bytes
  monkeypatch.setattr(memory, 'available', lambda device: int(0.8 * whole / memory.SAFE_SHARE))
  assert choose(programs, (40, 44)) != (40, 44)


def test_a_latent_that_cannot_fit_is_refused_before_running(programs):
  with pytest.raises(MemoryError, match='The latent of an image of this size takes .* and max_memory is 0 MiB'):
    choose(programs, (40, 44), max_memory=1000)


def test_a_tile_that_cannot_fit_is_refused(programs, monkeypatch):
  monkeypatch.setattr(programs_lib.Programs, 'get', lambda self, stage, *_: Sized(0 if stage == 'restore' else 2**30))
  with pytest.raises(MemoryError, match='The smallest tiles take 2.0 GiB and max_memory is 512 MiB: allow more'):
    choose(programs, (40, 44), max_memory=2**29)


class Sized:
  def __init__(self, size):
    self.bytes = size


@pytest.mark.parametrize(
  'tile, message',
  [('half', "Unknown tile 'half'; allowed: 'auto', 'full' or a number"), (0, 'tile must be at least 1 pixel, got 0')],
)
def test_unknown_tiles(programs, tile, message):
  with pytest.raises(ValueError, match=message):
    choose(programs, (2, 3), tile)


def test_a_network_that_is_not_local_is_not_tiled_by_itself():
  programs = programs_lib.Programs(*tiny_model(vae={'norm': 'group'}))
  assert choose(programs, (40, 44)) == (40, 44)
  with pytest.raises(MemoryError, match=r'The whole image takes .* and max_memory is .* \(vae.norm\): name a --tile'):
    choose(programs, (40, 44), max_memory=1)
