"""lh_jax.measure and lh_jax.protocols: what each protocol measures, against independent computations; and no value without its weights."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from skimage import metrics as skimage_metrics

from lh_jax import measure
from lh_jax import metrics
from lh_jax import protocols
from lh_jax.metrics import fid
from lh_jax.metrics import niqe
from lh_jax.metrics import similarity
from lh_jax.ops import color

RNG = np.random.default_rng(0)


def pair(height=50, width=70):
  a = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
  return np.clip(a + RNG.normal(0, 20, a.shape), 0, 255).astype(np.uint8), a


def measured(protocol, restored, reference, **models):
  return measure.Measure(protocol=protocol, **models).score(restored, reference)


def luma(image):
  return np.asarray(color.rgb_to_y(jnp.asarray(image, jnp.float32)[None] / 255.0))


def test_the_pinned_values():
  """Whoever changes one of these raises the protocol's version: older results stay comparable by name and version."""
  facts = ('version', 'colour', 'multiple', 'border', 'ssim_window', 'ssim_side', 'lpips', 'lpips_channels')
  assert {name: tuple(getattr(one, fact) for fact in facts) for name, one in protocols.PROTOCOLS.items()} == {
    'uhd': (1, 'y', 1, 0, 'gaussian', 0, ('alex',), 'rgb'),
    'uhd_bgr_lpips': (1, 'y', 1, 0, 'gaussian', 0, ('alex',), 'bgr'),
    'aio': (1, 'rgb', 16, 0, 'uniform', 0, ('alex',), 'rgb'),
    'rgb': (1, 'rgb', 1, 0, 'gaussian', 0, ('alex', 'vgg'), 'rgb'),
    'uhdformer': (1, 'y', 1, 1, 'gaussian_full', 0, ('alex',), 'rgb'),
    'dehaze_pooled': (1, 'rgb', 1, 0, 'gaussian', 256, ('alex',), 'rgb'),
  }
  assert all(name == one.name and one.reproduces for name, one in protocols.PROTOCOLS.items())


@pytest.mark.parametrize('name', protocols.PROTOCOLS)
def test_every_protocol_gives_luma_and_rgb(name):
  protocol = protocols.get(name)
  scores = measured(protocol, *pair(), lpips={net: lambda a, b: 0.25 for net in protocol.lpips})
  assert tuple(scores) == protocol.metrics
  assert {'psnr_y', 'ssim_y', 'psnr_rgb', 'ssim_rgb', 'ciede2000'} <= set(scores)
  assert all(type(value) is float for value in scores.values())
  assert next(iter(scores)) == protocol.headline


def test_uhd_is_the_usual_pair():
  a, b = pair()
  scores = measured(protocols.get('uhd'), a, b)
  for name, value in metrics.evaluate_pair(a, b).items():
    assert scores[name] == pytest.approx(value, abs=1e-6)
  assert scores['ciede2000'] == pytest.approx(metrics.ciede2000(a, b))


def test_aio_is_scikit_images_default_on_the_middle():
  a, b = pair(50, 70)
  x, y = a[1:49, 3:67], b[1:49, 3:67]
  scores = measured(protocols.get('aio'), a, b)
  assert scores['psnr_rgb'] == pytest.approx(skimage_metrics.peak_signal_noise_ratio(y, x), abs=1e-3)
  expected = skimage_metrics.structural_similarity(y, x, channel_axis=2, data_range=255)
  assert scores['ssim_rgb'] == pytest.approx(expected, abs=1e-5)


def test_uhdformer_leaves_a_pixel_out_and_keeps_the_full_map():
  a, b = pair()
  x, y = (luma(image[1:-1, 1:-1]) for image in (a, b))
  scores = measured(protocols.get('uhdformer'), a, b)
  assert scores['psnr_y'] == pytest.approx(float(metrics.psnr(x, y, max_value=255.0)[0]), abs=1e-4)
  expected = float(metrics.ssim(x, y, max_value=255.0, window='gaussian_full')[0])
  assert scores['ssim_y'] == pytest.approx(expected, abs=1e-5)


def test_dehaze_pooled_measures_ssim_on_averages():
  a, b = pair(512, 520)
  b = np.kron(b[:64, :65], np.ones((8, 8, 1), np.uint8))
  a = np.clip(b + RNG.normal(0, 20, b.shape), 0, 255).astype(np.uint8)
  x, y = (image.reshape(256, 2, 260, 2, 3).mean((1, 3), dtype=np.float32)[None] for image in (a, b))
  scores = measured(protocols.get('dehaze_pooled'), a, b)
  assert scores['ssim_rgb'] == pytest.approx(float(metrics.ssim(x, y, max_value=255.0)[0]), abs=1e-5)
  plain = measured(protocols.get('rgb'), a, b)
  assert scores['psnr_rgb'] == pytest.approx(plain['psnr_rgb']) and scores['ssim_rgb'] > plain['ssim_rgb'] + 0.01


def test_pooling_weights():
  """PyTorch's cells overlap where the length does not divide."""
  np.testing.assert_allclose(
    similarity.pooling_weights(5, 2), [[1 / 3, 1 / 3, 1 / 3, 0, 0], [0, 0, 1 / 3, 1 / 3, 1 / 3]], rtol=1e-6
  )
  assert (similarity.pooling_weights(6, 3).sum(1) == 1.0).all()


def test_lpips_channels():
  a, b = pair()
  fed = {}

  def distance(x, y):
    fed['pair'] = x, y
    return 0.5

  for name, order in (('uhd', 1), ('uhd_bgr_lpips', -1)):
    assert measured(protocols.get(name), a, b, lpips={'alex': distance})['lpips_alex'] == 0.5
    for given, image in zip(fed['pair'], (a, b)):
      np.testing.assert_array_equal(given, image[..., ::order])


def test_without_weights_there_is_a_reason_and_no_number(monkeypatch):
  def missing(net):
    if net == 'alex':
      return lambda a, b: 0.5
    raise FileNotFoundError(net)

  monkeypatch.setattr(metrics, 'load_lpips', missing)
  protocol = protocols.get('rgb')
  found = measure.Measure.load(protocol)
  assert list(found.lpips) == ['alex'] and found.columns == protocol.metrics
  assert found.not_computed == {
    'lpips_vgg': 'not computed: run python -m lh_jax.convert lpips_vgg',
    'niqe': 'not computed: no model was named',
    'fid': 'not computed: no Inception weights were named',
  }
  scores = found.score(*pair())
  assert scores['lpips_alex'] == 0.5 and 'lpips_vgg' not in scores
  found = measure.Measure.load(protocol, lpips='none', fid_kind='patch')
  assert not found.lpips and set(found.not_computed) == {'lpips_alex', 'lpips_vgg', 'niqe', 'patch_fid'}
  assert 'left out' in found.not_computed['lpips_alex']


def test_equal_images():
  _, image = pair()
  scores = measured(protocols.get('uhd'), image, image)
  assert scores['psnr_y'] == scores['psnr_rgb'] == np.inf
  assert scores['ssim_y'] == pytest.approx(1.0) and scores['ciede2000'] == pytest.approx(0.0, abs=1e-4)


def test_errors():
  protocol, (a, b) = protocols.get('uhd'), pair()
  with pytest.raises(ValueError, match="Unknown protocol 'psnr'; known: uhd, uhd_bgr_lpips, aio"):
    protocols.get('psnr')
  with pytest.raises(ValueError, match="lpips is 'both'; it must be one of auto, none"):
    measure.Measure.load(protocol, lpips='both')
  with pytest.raises(ValueError, match='Protocol uhd got an image of float64 .* must be uint8'):
    measured(protocol, a / 255.0, b)
  with pytest.raises(ValueError, match='Protocol uhd got an image of uint8'):
    measured(protocol, a, b[..., 0])
  with pytest.raises(ValueError, match='got a pair of sizes .* must be equal'):
    measured(protocol, a, b[:-1])
  with pytest.raises(ValueError, match='Protocol uhdformer needs at least 13 pixels a side, got 12x70'):
    measured(protocols.get('uhdformer'), a[:12], b[:12])
  with pytest.raises(ValueError, match=r'got 0x64 .* after its crop to a multiple of 16'):
    measured(protocols.get('aio'), a[:15], b[:15])
  with pytest.raises(dataclasses.FrozenInstanceError):
    protocol.border = 4


def niqe_model(path):
  rng = np.random.default_rng(1)
  root = rng.normal(size=(niqe.FEATURES, niqe.FEATURES))
  niqe.save(path, niqe.Model(rng.normal(size=niqe.FEATURES), root @ root.T))
  return path


def test_niqe_where_its_model_is_named(tmp_path, caplog):
  path = niqe_model(tmp_path / 'pristine.npz')
  found = measure.Measure.load(protocols.get('uhd'), lpips='none', niqe_model=path)
  a, b = pair(100, 200)
  assert found.columns == (*protocols.get('uhd').metrics, 'niqe') and 'niqe' not in found.not_computed
  assert found.score(a, b)['niqe'] == niqe.score(a, niqe.load(path))
  assert found.models['niqe']['path'] == str(path) and len(found.models['niqe']['sha256']) == 64
  small = found.score(*pair())
  assert 'niqe' not in small and small['psnr_y'] > 0 and 'NIQE got an image of 50x70 pixels' in caplog.text
  assert set(found.lacking(small)) == {'niqe'} and not found.lacking(found.score(a, b))
  less = found.without({'niqe': 'not computed: elsewhere'})
  assert less.niqe is None and not less.models and less.not_computed['niqe'] == 'not computed: elsewhere'


def test_fid_of_images_and_of_patches():
  seen = []

  def inception(image):
    seen.append(image.shape)
    return np.zeros((1, 2048), np.float32)

  image = np.zeros((300, 700, 3), np.uint8)
  assert measure.Measure(protocol=protocols.get('uhd'), inception=inception).features(image).shape == (1, 2048)
  patches = measure.Measure(protocol=protocols.get('uhd'), inception=inception, fid_kind='patch')
  assert patches.features(image).shape == (2, 2048) and patches.columns[-1] == 'patch_fid'
  assert seen == [image.shape, (fid.SIDE, fid.SIDE, 3), (fid.SIDE, fid.SIDE, 3)]


def test_models_that_are_not_there(tmp_path):
  protocol = protocols.get('uhd')
  with pytest.raises(FileNotFoundError, match='no such NIQE model. Give the modelparameters.mat'):
    measure.Measure.load(protocol, niqe_model=tmp_path / 'none.mat')
  with pytest.raises(FileNotFoundError, match='inception_fid.* are not there. Download https://'):
    measure.Measure.load(protocol, fid_weights=tmp_path / 'none.safetensors')
  with pytest.raises(ValueError, match="fid_kind is 'crop'; it must be one of image, patch"):
    measure.Measure.load(protocol, fid_kind='crop')
