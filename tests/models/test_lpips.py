"""The bands of LPIPS against the whole image by flax's own layers."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.models import lpips

# Both networks' windows, strides and padding with few channels.
TINY = {
  net: tuple(layer._replace(channels=layer.channels and 2 + i % 3) for i, layer in enumerate(layers))
  for net, layers in lpips.NETWORKS.items()
}


def random_params(layers, seed=0):
  rng = np.random.default_rng(seed)
  leaves, tree = jax.tree.flatten(lpips.abstract_params(layers))
  return jax.tree.unflatten(tree, [rng.standard_normal(leaf.shape).astype(np.float32) for leaf in leaves])


def whole(layers, params, images):
  """Distances at the taps, from the whole images at once."""
  x = (2 * images - 1 - np.array(lpips.SHIFT).reshape(1, 1, 1, 3)) / np.array(lpips.SCALE).reshape(1, 1, 1, 3)
  found = []
  for layer in layers:
    if not layer.name:
      x = nn.max_pool(x, (layer.kernel,) * 2, strides=(layer.stride,) * 2)
      continue
    conv = nn.Conv(layer.channels, (layer.kernel,) * 2, strides=layer.stride, padding=layer.padding)
    x = nn.relu(conv.apply({'params': params[layer.name]}, x))
    if layer.tap:
      unit = x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)
      found.append(jnp.mean(jnp.square(unit[0] - unit[1]) @ params[f'head_{layer.name}']['kernel']))
  return np.array(found)


def in_bands(layers, params, images, band):
  stream = lpips.Stream(layers, band)
  height, width = images.shape[1:3]
  heights = jnp.array(lpips.map_sides(layers, height))
  carry, total = stream.first_carry(width), 0.0
  step = jax.jit(lpips.step, static_argnames='stream')
  for i in range(stream.steps(height)):
    rows = np.full((2, band, width, 3), np.nan, np.float32)  # what lies below the image must not matter
    part = images[:, i * band : (i + 1) * band]
    rows[:, : part.shape[1]] = part
    carry, sums = step(params, carry, rows, jnp.int32(i), heights, stream=stream)
    total = total + np.asarray(sums, np.float64).sum(axis=1)
  return lpips.mean_distances(total, layers, (height, width))


@pytest.mark.parametrize('net', ['alex', 'vgg'])
@pytest.mark.parametrize('band', [16, 96])
def test_bands_give_the_whole_image(net, band):
  layers = TINY[net]
  params = random_params(layers)
  rng = np.random.default_rng(1)
  # One width, so that the heights share a compiled program. Shorter and longer than a band, odd, aligned and not.
  for height in (31, 32, 61, 97):
    images = rng.uniform(0, 1, (2, height, 35, 3)).astype(np.float32)
    np.testing.assert_allclose(
      in_bands(layers, params, images, band), whole(layers, params, images), rtol=2e-5, atol=1e-6, err_msg=str(height)
    )


@pytest.mark.parametrize('net', ['alex', 'vgg'])
def test_another_width(net):
  params = random_params(TINY[net])
  images = np.random.default_rng(2).uniform(0, 1, (2, 37, 46, 3)).astype(np.float32)
  expected = whole(TINY[net], params, images)
  np.testing.assert_allclose(in_bands(TINY[net], params, images, 32), expected, rtol=2e-5, atol=1e-6)


def test_nothing_is_computed_twice():
  # The rows of the finest map over all bands are those of the image, but for the lag of the deepest map.
  for layers in lpips.NETWORKS.values():
    stream = lpips.Stream(layers, 64)
    assert stream.steps(2160) * 64 <= 2160 + 64 + 16 * -stream.starts()[-1]
    assert all(kept >= layer.kernel - layer.stride - 1 for kept, layer in zip(stream.kept(), layers))
    assert max(stream.kept()) <= 10


def test_taps_are_those_of_the_paper():
  taps = {net: [layer.channels for layer in layers if layer.tap] for net, layers in lpips.NETWORKS.items()}
  assert taps == {'alex': [64, 192, 384, 256, 256], 'vgg': [64, 128, 256, 512, 512]}
  assert lpips.map_sides(lpips.NETWORKS['alex'], 224)[-1] == 13
  assert lpips.map_sides(lpips.NETWORKS['vgg'], 224)[-1] == 14


def test_errors():
  with pytest.raises(ValueError, match='an LPIPS band of 24 rows; band must be a positive multiple of 16'):
    lpips.Stream(lpips.NETWORKS['alex'], 24)
