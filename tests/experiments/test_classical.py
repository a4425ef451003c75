"""`experiments/classical.py`, `tuning.py`: every method keeps shape and type and helps its task; the best is chosen."""

import sys

import numpy as np
import pytest

from lh_jax import synthesis
from lh_jax.data import items
from lh_jax.ops import degradations
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import classical  # noqa: E402
import tuning  # noqa: E402

SIDE = 48


def picture(side: int = SIDE) -> np.ndarray:
  """A smooth picture with edges, in colour."""
  y, x = np.mgrid[:side, :side] / side
  waves = [0.5 + 0.3 * np.sin(9 * x + channel) * np.cos(7 * y) for channel in range(3)]
  image = np.stack(waves, axis=-1)
  image[side // 3 : side // 2, side // 4 : side // 2] *= 0.3
  return np.round(255 * image).astype(np.uint8)


def degraded(task: str, clean: np.ndarray) -> np.ndarray:
  return synthesis.synthesise(clean, name='a', task=task, severity=0.5)


def gain(task: str, *steps: classical.Step) -> float:
  """What the steps add to the PSNR of the degraded picture."""
  clean = picture()
  image = degraded(task, clean)
  return tuning.psnr(classical.apply(steps, image), clean) - tuning.psnr(image, clean)


GOOD = [
  ('noise25', 'nl_means', {'sigma': 25, 'strength': 0.7}),
  ('noise25', 'total_variation', {'weight': 0.12}),
  ('noise25', 'dct', {'sigma': 25, 'threshold': 2.5}),
  ('noise25', 'wavelet', {'sigma': 25}),
  ('noise25', 'median', {'size': 3}),
  ('noise25', 'bilateral', {'color': 0.2, 'space': 2.0}),
  ('noise25', 'gaussian', {'sigma': 1.0}),
  ('noise25', 'guided', {'radius': 2, 'epsilon': 0.02}),
  ('blur', 'wiener', {'psf': 'gaussian', 'size': 1.5, 'balance': 0.03}),
  ('blur', 'richardson_lucy', {'psf': 'disk', 'size': 2.0, 'iterations': 5}),
  ('blur', 'unsharp', {'radius': 2, 'amount': 0.5}),
  ('haze', 'dark_channel', {'patch': 7, 'omega': 0.8}),
  ('haze', 'stretch', {'percent': 0.1}),
  ('haze', 'clahe', {'clip': 0.01}),
  ('low_light', 'gain', {'stops': 2.25, 'power': 0.93}),
  ('low_light', 'gamma', {'power': 0.5}),
  ('low_light', 'mean_gamma', {'target': 0.45}),
  ('low_light', 'key_exposure', {'key': 0.18}),
]


@pytest.mark.parametrize(('task', 'method', 'parameters'), GOOD)
def test_a_method_with_good_parameters_improves_its_task(task, method, parameters):
  if method in classical.missing():
    pytest.skip('needs PyWavelets')
  assert gain(task, (method, parameters)) > 0.4


def test_an_opening_takes_away_thin_bright_lines():
  clean = picture()
  image = clean.copy()
  image[:, 30] = 255
  restored = classical.opening(image, size=2)
  assert tuning.psnr(restored, clean) > tuning.psnr(image, clean) + 3


@pytest.mark.parametrize('task', degradations.BENCHMARK)
def test_every_candidate_keeps_shape_and_type(task):
  """One candidate of each chain of methods, on an image whose sides are no multiple of anything."""
  image = degraded(task, picture()[:45, :47])
  chains = {tuning.label(candidate): candidate for candidate in tuning.candidates(task)}
  before = image.copy()
  for candidate in chains.values():
    restored = classical.apply(candidate, image)
    assert (restored.shape, restored.dtype) == (image.shape, np.uint8), candidate
  np.testing.assert_array_equal(image, before)
  assert () not in tuning.candidates(task)  # to leave the image alone is no candidate


def test_every_method_is_tried_and_good_for_something():
  tried = {name for task in degradations.BENCHMARK for candidate in tuning.candidates(task) for name, _ in candidate}
  assert tried | classical.missing().keys() == classical.METHODS.keys() == {m for _, m, _ in GOOD} | {'opening'}


def test_composites_are_undone_in_inverse_order():
  labels = {tuning.label(candidate) for candidate in tuning.candidates('noise25+blur')}
  assert 'dct, then wiener' in labels and 'wiener, then dct' not in labels and {'dct', 'wiener'} <= labels
  assert gain('low_light+noise25', ('dct', {'sigma': 25, 'threshold': 3.0}), ('gain', {'stops': 2.25})) > 3


def test_flat_and_black_images():
  for image in (np.zeros((20, 20, 3), np.uint8), np.full((20, 20, 3), 255, np.uint8)):
    for task in ('low_light', 'haze', 'rain'):
      for candidate in {tuning.label(c): c for c in tuning.candidates(task)}.values():
        assert classical.apply(candidate, image).shape == image.shape


def test_the_candidate_with_the_highest_psnr_is_chosen(monkeypatch):
  clean = picture(16)
  image = (clean // 2).astype(np.uint8)
  grid = [((('gain', {'stops': stops})),) for stops in (0.0, 2.0, 9.0)]
  monkeypatch.setitem(tuning.TASKS, 'low_light', lambda: [*grid, (('gamma', {'power': 0.9}),)])
  found = tuning.best('low_light', [(image, clean), (image, clean)])
  assert found['steps'] == [['gain', {'stops': 2.0}]] and found['candidates'] == 4 and found['crops'] == 2
  assert found['psnr_rgb'] == pytest.approx(tuning.psnr(classical.gain(image, stops=2.0), clean))
  assert found['psnr_rgb_input'] == pytest.approx(tuning.psnr(image, clean))
  assert list(found['methods']) == ['gain', 'gamma'] and found['methods']['gain'] == found['psnr_rgb']


def test_it_is_chosen_even_where_it_makes_things_worse(monkeypatch):
  clean = picture(16)
  monkeypatch.setitem(tuning.TASKS, 'haze', lambda: [(('gamma', {'power': 3.0}),)])
  found = tuning.best('haze', [(clean, clean)])
  assert found['psnr_rgb'] < found['psnr_rgb_input'] == float('inf')


def test_crops_are_spread_over_the_photographs():
  photographs = [items.Item(name=f'{i}.png', height=300, width=40) for i in range(7)]
  source = items.Source(photographs, lambda index: {'clean': np.full((300, 40, 3), index, np.uint8)}, cache_gib=0)
  found = list(tuning.pairs(source, 'noise15', count=3, severity=0.5, seed=0))
  assert [clean[0, 0, 0] for _, clean in found] == [0, 3, 6]
  assert all(image.shape == clean.shape == (tuning.SIDE, 40, 3) for image, clean in found)
  again = list(tuning.pairs(source, 'noise15', count=3, severity=0.5, seed=0))
  np.testing.assert_array_equal(found[1][0], again[1][0])


def test_errors():
  with pytest.raises(ValueError, match="No classical method for 'fog'; known: low_light, haze"):
    tuning.candidates('fog')
  with pytest.raises(ValueError, match='To choose a method for haze takes one crop'):
    tuning.best('haze', [])
