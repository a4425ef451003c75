"""Painted images: deterministic, covering, and with the spectrum of photographs."""

import numpy as np
import pytest

from lh_jax.data.dead_leaves import dead_leaves


def test_is_a_function_of_the_generator():
  first, again, other = (dead_leaves(np.random.default_rng(seed), 64) for seed in (1, 1, 2))
  assert first.shape == (64, 64, 3) and first.dtype == np.uint8
  np.testing.assert_array_equal(first, again)
  assert (first != other).mean() > 0.5


@pytest.mark.parametrize('size', [1, 2, 9])
def test_tiny_sizes(size):
  assert dead_leaves(np.random.default_rng(0), size).shape == (size, size, 3)


def test_statistics_are_those_of_photographs():
  grey = dead_leaves(np.random.default_rng(0), 256).astype(float).mean(axis=2)
  assert 70 < grey.mean() < 180 and 30 < grey.std() < 90
  # The power spectrum of natural images falls about as the square of the frequency (Field 1987).
  power = np.abs(np.fft.fft2((grey - grey.mean()) * np.outer(np.hanning(256), np.hanning(256)))) ** 2
  frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256), indexing='ij'))
  edges = np.geomspace(4 / 256, 0.25, 9)
  mean = [power[(frequency >= low) & (frequency < high)].mean() for low, high in zip(edges, edges[1:])]
  slope = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(mean), 1)[0]
  assert -3.0 < slope < -1.2


def test_size_must_be_positive():
  with pytest.raises(ValueError, match='size of a painted image is 0; it must be positive'):
    dead_leaves(np.random.default_rng(0), 0)
