"""`experiments/latents.py`: spectra and similarities of latents that are known by hand."""

import sys

import numpy as np
import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import latents  # noqa: E402

RNG = np.random.default_rng(0)


def wave(frequency: tuple[int, int], *, side: int = 8, channels: int = 2) -> np.ndarray:
  """One latent, a single cosine of the DCT in every channel."""
  position = (np.arange(side) + 0.5) * np.pi / side
  plane = np.outer(np.cos(frequency[0] * position), np.cos(frequency[1] * position))
  return np.broadcast_to(plane[None, :, :, None], (1, side, side, channels)).copy()


def test_dct_of_a_cosine_is_one_coefficient():
  spectra = latents.dct(wave((3, 5)))
  strongest = np.unravel_index(np.abs(spectra[0, :, :, 0]).argmax(), (8, 8))
  assert strongest == (3, 5)
  np.testing.assert_allclose(np.sum(spectra**2), spectra[0, 3, 5, 0] ** 2 * 2, rtol=1e-12)


def test_a_coarser_grid_keeps_the_frequencies_that_it_has():
  for frequency, kept in (((3, 2), True), ((3, 5), False)):
    coarse = latents.on_grid(wave(frequency), 4, 4)
    expected = wave(frequency, side=4) * (8 / 4) * kept  # the orthonormal DCT spreads energy over the pixels
    np.testing.assert_allclose(coarse, expected, atol=1e-12)
  z = RNG.standard_normal((2, 8, 8, 3))
  np.testing.assert_allclose(latents.on_grid(z, 8, 8), z, atol=1e-12)
  with pytest.raises(ValueError, match=r'A grid of 9x8 is finer than that of the latents \(2, 8, 8, 3\)'):
    latents.on_grid(z, 9, 8)


def test_dct_keeps_energy_and_inverts():
  z = RNG.standard_normal((2, 6, 10, 3))
  spectra = latents.dct(z)
  np.testing.assert_allclose(np.sum(spectra**2), np.sum(z**2), rtol=1e-12)
  np.testing.assert_allclose(latents.inverse_dct(spectra), z, atol=1e-12)


def test_radius_is_one_at_the_nyquist_frequency():
  radii = latents.radius(4, 8)
  assert radii[0, 0] == 0.0 and radii[2, 0] == 0.5 and radii[0, 4] == 0.5
  assert latents.radius(10**3, 2)[-1, 0] == pytest.approx(1.0, abs=2e-3)
  assert latents.radius(10**3, 10**3).max() == pytest.approx(np.sqrt(2), abs=2e-3)


def test_bands_are_ordered_and_complete():
  which = latents.bands(16, 16, 4)
  assert which[0, 0] == 0 and which[-1, -1] == 3
  assert set(which.ravel()) == {0, 1, 2, 3}
  middle = latents.centres(4)
  for band in range(4):
    inside = latents.radius(16, 16)[which == band]
    assert np.all(np.abs(inside - middle[band]) <= np.sqrt(2) / 8 + 1e-12)


def test_spectrum_of_one_frequency_lies_in_its_band():
  density = latents.spectrum(wave((5, 0)), count=4)
  band = latents.bands(8, 8, 4)[5, 0]
  assert density[band] == pytest.approx(63 / np.sum(latents.bands(8, 8, 4) == band))
  np.testing.assert_allclose(np.delete(density, band), 0.0, atol=1e-12)


def test_spectrum_of_white_noise_is_flat_and_blind_to_offset_and_scale():
  z = RNG.standard_normal((64, 16, 16, 4))
  density = latents.spectrum(z, count=4)
  np.testing.assert_allclose(density, 1.0, atol=0.04)
  np.testing.assert_allclose(latents.spectrum(7.0 + 3.0 * z, count=4), density, rtol=1e-9)


def test_spectrum_names_empty_bands():
  density = latents.spectrum(RNG.standard_normal((1, 2, 2, 1)), count=8)
  assert np.isnan(density).sum() == 8 - 2


def test_high_frequency_share():
  assert latents.high_frequency_share(wave((2, 0))) == pytest.approx(0.0)
  assert latents.high_frequency_share(5.0 + wave((6, 0))) == pytest.approx(1.0)
  assert latents.high_frequency_share(wave((2, 0)) + wave((6, 0))) == pytest.approx(0.5)
  assert latents.high_frequency_share(np.ones((1, 8, 8, 1))) == 0.0


def test_low_pass_removes_the_top_frequencies_only():
  low, high = wave((1, 0)), wave((7, 7))
  np.testing.assert_allclose(latents.low_pass(low + high, ratio=0.1), low, atol=1e-12)
  np.testing.assert_allclose(latents.low_pass(low + high, ratio=0.0), low + high, atol=1e-12)


def test_low_pass_counts_coefficients_and_keeps_the_mean():
  z = 2.0 + RNG.standard_normal((1, 16, 16, 1))
  kept = [np.count_nonzero(np.abs(latents.dct(latents.low_pass(z, ratio=q))) > 1e-9) / 256 for q in (0.25, 0.5, 0.75)]
  np.testing.assert_allclose(kept, [0.75, 0.5, 0.25], atol=0.02)
  np.testing.assert_allclose(latents.low_pass(z, ratio=0.999), z.mean(), atol=1e-12)


@pytest.mark.parametrize('ratio', [-0.1, 1.0])
def test_low_pass_ratio(ratio):
  with pytest.raises(ValueError, match='cut-off ratio must lie in'):
    latents.low_pass(wave((1, 0)), ratio=ratio)


def test_cosine():
  np.testing.assert_allclose(latents.cosine([[1, 0], [1, 1], [0, 0]], [[0, 2], [2, 2], [1, 0]]), [0, 1, 0], atol=1e-12)


def test_cross_degradation_similarity_averages_pairs_and_images():
  a, b = wave((1, 0)), wave((0, 1))
  by_task = {'haze': np.concatenate([a, b]), 'blur': np.concatenate([a, -b]), 'noise25': np.concatenate([a, a])}
  # Image 1: 1, 1, 1; image 2: cos(b, -b) = -1, cos(b, a) = 0, cos(-b, a) = 0.
  assert latents.cross_degradation_similarity(by_task) == pytest.approx((3 - 1) / 6)


def test_cross_degradation_bands_tell_frequencies_apart():
  low, high = wave((1, 0)), wave((7, 7))
  curve = latents.cross_degradation_bands({'blur': low + high, 'noise25': low - high}, count=4)
  assert curve[0] == pytest.approx(1.0) and curve[-1] == pytest.approx(-1.0)
  assert np.isnan(latents.cross_degradation_bands({'a': np.ones((1, 1, 1, 1)), 'b': np.ones((1, 1, 1, 1))}, count=2)[1])


def test_one_degradation_is_refused():
  with pytest.raises(ValueError, match='at least two of them'):
    latents.cross_degradation_similarity({'haze': wave((1, 0))})
  with pytest.raises(ValueError, match='at least two of them'):
    latents.cross_degradation_bands({'haze': wave((1, 0))}, count=2)


def test_content_similarity():
  a, b = wave((1, 0)), wave((0, 1))
  assert latents.content_similarity(np.concatenate([a, a, b])) == pytest.approx(1 / 3)
  with pytest.raises(ValueError, match='at least two images'):
    latents.content_similarity(a)


def test_pooled_and_picture():
  z = RNG.standard_normal((2, 4, 6, 3))
  np.testing.assert_allclose(latents.pooled(z), z.mean(axis=(1, 2)))
  picture = latents.to_picture(z[0])
  assert picture.shape == (4, 6, 3) and picture.min() == 0.0 and picture.max() == 1.0
  assert not latents.to_picture(np.full((4, 4), 3.0)).any()


def test_wrong_shapes_and_counts():
  with pytest.raises(ValueError, match=r'\(N, h, w, C\) arrays'):
    latents.dct(np.zeros((4, 4, 1)))
  with pytest.raises(ValueError, match='at least one radial band'):
    latents.bands(4, 4, 0)
