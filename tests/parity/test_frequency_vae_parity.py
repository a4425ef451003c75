"""The frequency-enhanced VAE against the authors' public code, live: the full size, every block, odd sizes.

Needs torch, einops and a checkout of UHD-processer, named by the environment variable LH_JAX_UHD_PROCESSER; the basic
suite compares with committed values.
"""

from __future__ import annotations

import contextlib
import functools
import os

from flax import traverse_util
import jax
import numpy as np
import pytest

from lh_jax.convert import frequency_vae
from lh_jax.convert import layouts
from lh_jax.models import vae

from tests.parity import make_frequency_vae_golden as recipe

pytest.importorskip('torch', reason='needs torch, the implementation to compare with')
pytest.importorskip('einops', reason='needs einops, which the implementation to compare with imports')
pytestmark = [
  pytest.mark.parity,
  pytest.mark.skipif(
    not os.environ.get(recipe.VARIABLE),
    reason=f'needs {recipe.VARIABLE}: a checkout of https://github.com/lyd-2022/UHD-processer',
  ),
]

TOLERANCE = 1e-4  # Largest error over largest value, float32.
SIZE = dict(ch=16, ch_mult=(1, 2, 4, 4), num_res_blocks=2, attn_resolutions=(64, 32), resolution=256)
CHANNELS = {'lh_fe': (32, 32), 'uhd_processer': (4, 16)}


@functools.cache
def pair(preset):
  """(their model, ours, our parameters) with the same random weights."""
  code, latent = CHANNELS[preset]
  theirs = recipe.vae(recipe.load(os.environ[recipe.VARIABLE]), z_channels=code, embed_channels=latent, **SIZE)
  ours = vae.build(preset=preset)
  tensors = {name: value.numpy() for name, value in theirs.state_dict().items()}
  like = jax.eval_shape(ours.init, jax.random.key(0))
  return theirs, ours, layouts.convert(tensors, like, frequency_vae.LAYOUTS)


def errors(preset, size, *, exact_angles=True):
  theirs, ours, params = pair(preset)
  with recipe.exact_angles() if exact_angles else contextlib.nullcontext():
    expected = recipe.run(theirs, size, factor=ours.preset.factor)
  cells = tuple(side // ours.preset.factor for side in size)
  found = {}
  for half, module, argument, result in (
    ('encoder', ours.encoder, recipe.image(size), 'moments'),
    ('decoder', ours.decoder, recipe.latent(cells, ours.preset.latent_channels), 'decoded'),
  ):
    apply = jax.jit(functools.partial(module.apply, capture_intermediates=True, mutable=['intermediates']))
    found[result], state = apply({'params': params[half]}, argument)
    for path, value in traverse_util.flatten_dict(state['intermediates']).items():
      found[f'{half}/{"/".join(path[:-1])}'] = value[0]
  result = {
    name: np.abs(np.asarray(found[name]) - value).max() / np.abs(value).max() for name, value in expected.items()
  }
  print(preset, size, {name: float(f'{value:.1e}') for name, value in result.items()})
  return result


# At 64x64, one frequency of the smaller code lies 2e-6 from the cut between the angles pi and -pi, and rounding decides.
@pytest.mark.parametrize('preset, size', [('lh_fe', (64, 64)), ('lh_fe', (40, 72)), ('uhd_processer', (40, 72))])
def test_every_block(preset, size):
  assert max(errors(preset, size).values()) < TOLERANCE


def test_rounding_decides_some_of_their_angles():
  """At widths of 18 and 36 torch's transform leaves rounding errors where the imaginary part is zero."""
  found = errors('lh_fe', (40, 72), exact_angles=False)
  assert found['decoder/up3'] < TOLERANCE and TOLERANCE < found['decoder/up2'] < 0.1


def test_golden_values_are_up_to_date():
  fresh = recipe.golden(os.environ[recipe.VARIABLE])
  with np.load(recipe.FIXTURES / 'frequency_vae_golden.npz') as stored:
    assert set(stored.files) == set(fresh)
    for name, value in fresh.items():
      if value.dtype.kind == 'f':
        np.testing.assert_allclose(stored[name], value, atol=1e-4, err_msg=name)
      else:
        np.testing.assert_array_equal(stored[name], value)
