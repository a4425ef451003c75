"""The compiled pieces: types in and out, what they take, one program for every alpha."""

import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import programs as programs_lib

from tests.conftest import tiny_model


@pytest.fixture(scope='module')
def model():
  return tiny_model()


def test_rounding_and_clipping():
  image = jnp.asarray([[[-0.1, 1.2, 0.5]]])
  np.testing.assert_array_equal(programs_lib.from_unit_range(image, np.uint8), [[[0, 255, 128]]])
  np.testing.assert_array_equal(programs_lib.from_unit_range(image, np.float32), [[[0.0, 1.0, 0.5]]])


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_every_level_comes_back(dtype):
  levels = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
  unit = programs_lib.to_unit_range(jnp.asarray(levels))
  assert unit.dtype == jnp.float32 and unit.min() == 0.0 and unit.max() == 1.0
  np.testing.assert_array_equal(programs_lib.from_unit_range(unit, dtype), levels)


def test_the_pieces_are_the_whole_model(model):
  """Encode, restore, decode one after the other are Networks.restore."""
  networks, params = model
  programs = programs_lib.Programs(networks, params)
  image = np.random.default_rng(0).uniform(0, 1, (1, 24, 40, 3)).astype(np.float32)
  latent, finite = programs.get('encode', 3, 5).run(programs.params, np.float32(0.3), image)
  assert latent.shape == (1, 3, 5, programs.geometry.channels) and finite
  latent, _ = programs.get('restore', 3, 5).run(programs.params, latent)
  restored, _ = programs.get('decode', 3, 5).run(programs.params, np.float32(0.7), latent)
  np.testing.assert_allclose(restored, jnp.clip(networks.restore(params, image, 0.3), 0, 1), atol=1e-5)
  assert len(programs.compiled) == 3 and programs.compile_seconds > 0


def test_bytes_grow_with_the_window(model):
  programs = programs_lib.Programs(*model)
  small, large = (programs.get('decode', side, side, np.uint8).bytes for side in (8, 16))
  assert 3 < large / small < 5


def test_the_programs_longest_unused_are_dropped(model, monkeypatch):
  monkeypatch.setattr(programs_lib, 'MAX_PROGRAMS', 2)
  programs = programs_lib.Programs(*model)
  for rows in (1, 2, 1, 3):
    programs.get('restore', rows, 2)
  assert [rows for _, rows, *_ in programs.compiled] == [1, 3]


def test_unknown_stage(model):
  with pytest.raises(ValueError, match="Unknown stage 'upscale'; known: encode, restore, decode"):
    programs_lib.piece(model[0], 'upscale', 1, 1, np.uint8)
