"""CMYK to RGB: with the profile as an independent colour engine does it, without one as Pillow does."""

import io

import numpy as np
from PIL import Image, ImageCms
import pytest

from lh_jax.data.formats import cmyk

NOISE = np.random.default_rng(0).integers(0, 256, (23, 31, 4), dtype=np.uint8)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_with_its_profile(cmyk_profile, dtype):
  pixels = NOISE if dtype == np.uint8 else NOISE.astype(np.uint16) * 257
  rgb, note = cmyk.to_rgb(pixels, cmyk_profile)
  expected = ImageCms.profileToProfile(
    Image.frombytes('CMYK', (31, 23), NOISE.tobytes()),
    io.BytesIO(cmyk_profile),
    ImageCms.createProfile('sRGB'),
    renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    outputMode='RGB',
    flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
  )
  assert rgb.dtype == dtype
  scale = 1 if dtype == np.uint8 else 257
  assert np.abs(rgb / scale - np.asarray(expected)).max() <= 1.01
  assert note == 'CMYK converted to sRGB with its embedded profile, which is not kept'
  plain, _ = cmyk.to_rgb(pixels, None)
  assert np.abs(rgb / scale - plain / scale).mean() > 5  # the profile matters


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_without_a_profile(dtype):
  pixels = NOISE if dtype == np.uint8 else NOISE.astype(np.uint16) * 257
  rgb, note = cmyk.to_rgb(pixels, None)
  expected = np.asarray(Image.frombytes('CMYK', (31, 23), NOISE.tobytes()).convert('RGB'))
  assert rgb.dtype == dtype and np.abs(rgb / (1 if dtype == np.uint8 else 257) - expected).max() <= 1
  assert note == 'CMYK converted to RGB without a profile'
  assert cmyk.to_rgb(np.array([[[0, 0, 0, 0]]], dtype), None)[0].tolist() == [[[np.iinfo(dtype).max] * 3]]


def test_a_profile_that_cannot_be_used(cmyk_profile, icc):
  plain, _ = cmyk.to_rgb(NOISE, None)
  for profile, reason in (
    (icc(), "it is not a CMYK profile but b'RGB '"),
    (b'', "it is not a CMYK profile but b''"),
    (cmyk_profile[:200], 'cms'),
  ):
    rgb, note = cmyk.to_rgb(NOISE, profile)
    np.testing.assert_array_equal(rgb, plain)
    assert note.startswith(f'CMYK converted to RGB without its embedded profile, which cannot be used: {reason}')
