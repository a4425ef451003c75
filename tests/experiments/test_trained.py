"""`experiments/trained.py` and the figures built on it: crops, latents, verdicts, and which loss trains what."""

import argparse
import sys

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
import numpy as np
import pytest

from lh_jax import optim
from tests.conftest import ROOT
from tests.conftest import tiny_model

sys.path.insert(0, str(ROOT / 'experiments'))
import fig2_finetuning  # noqa: E402
import fig2_latents  # noqa: E402
import runs  # noqa: E402
import supp_fig5  # noqa: E402
import supp_fig7  # noqa: E402
import trained  # noqa: E402
import trends  # noqa: E402

RNG = np.random.default_rng(0)


@pytest.fixture(name='model', scope='module')
def _model():
  return trained.Trained(*tiny_model())


@pytest.mark.parametrize(('size', 'count'), [((100, 100), 4), ((300, 100), 3), ((100, 300), 3), ((90, 130), 7)])
def test_crops_spread_over_the_image(size, count):
  found = list(trained.places(size, side=32, count=count))
  assert len(set(found)) == count
  for y, x in found:
    assert 0 <= y <= size[0] - 32 and 0 <= x <= size[1] - 32
  if count == 3:  # along the longer side
    assert len({place[size.index(min(size))] for place in found}) == 1


def test_crops_are_shared_among_the_images(monkeypatch):
  images = [(f'{i}.png', np.full((80, 96, 3), i, np.uint8)) for i in range(3)]
  monkeypatch.setattr(trained.runs, 'test_images', lambda _: images)
  monkeypatch.setitem(trained.CROPS, 'dry', (64, 7))
  found = trained.crops(argparse.Namespace(scale='dry'))
  assert found.shape == (7, 64, 64, 3)
  assert np.bincount(found[:, 0, 0, 0]).tolist() == [2, 2, 3]
  images[1] = ('small.png', np.zeros((80, 40, 3), np.uint8))
  with pytest.raises(ValueError, match='small.png has 40x80 pixels, crops need 64x64'):
    trained.crops(argparse.Namespace(scale='dry'))
  images[1] = ('fits.png', np.zeros((80, 96, 3), np.uint8))
  assert len(trained.crops(argparse.Namespace(scale='dry'), count=2)) == 2
  with pytest.raises(ValueError, match='At least 1 crop is needed, got 0'):
    trained.crops(argparse.Namespace(scale='dry'), count=0)


def test_latents_and_images_are_those_of_the_networks(model):
  images = RNG.integers(0, 256, (trained.BATCH + 1, 32, 32, 3), np.uint8)
  params, x = model.params, jnp.asarray(images / np.float32(255.0))
  z = model.encode(images)
  expected = model.networks.encode(params['vae']['encoder'], params['latent'], x)
  np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-4)
  for alpha in (0.0, 1.0):
    expected = 255.0 * np.clip(model.networks.restore(params, x, alpha), 0.0, 1.0)
    np.testing.assert_allclose(model.restore(images, alpha=alpha), expected, atol=0.51)
  expected = 255.0 * np.clip(model.networks.reconstruct(params, x), 0.0, 1.0)
  np.testing.assert_allclose(model.decode(z), expected, atol=0.51)
  branch = model.networks.adapt(params['vae']['encoder'], params['encoder_lora'], 1.0)
  expected = model.networks.encode(branch, params['latent'], x)
  np.testing.assert_allclose(model.encode(images, fhf=1.0), expected, rtol=1e-4, atol=1e-4)
  assert np.abs(model.encode(images, fhf=1.0) - z).max() > 1e-3


def test_restoration_averages_tasks(model, monkeypatch):
  clean = np.zeros((2, 32, 32, 3), np.uint8)
  monkeypatch.setattr(trained.runs, 'score', lambda a, b: {'psnr_y': float(a.mean() - b.mean())})
  monkeypatch.setattr(trained.Trained, 'restore', lambda self, images, *, alpha: images)
  images = {'haze': clean + np.uint8(10), 'blur': clean + np.uint8(30)}
  assert trained.restoration(model, images, clean) == {'psnr_y': 20.0}


def test_degraded_keeps_the_crops_under_every_task():
  clean = np.full((2, 64, 64, 3), 128, np.uint8)
  found = trained.degraded(clean, argparse.Namespace(seed=0), tasks=('noise15', 'noise25'))
  assert list(found) == ['noise15', 'noise25'] and found['noise15'].shape == clean.shape
  assert found['noise15'][0].std() == pytest.approx(15.0, rel=0.1)
  assert found['noise25'][0].std() == pytest.approx(25.0, rel=0.1)
  assert np.any(found['noise15'][0] != found['noise15'][1])


def test_verdicts_carry_their_row():
  models = {'a': {'psnr': 2.0}, 'b': {'psnr': 1.0}}
  claims = [trends.of_models(f'{x} above {y}', 'psnr', x, y, models, why='few steps') for x, y in ('ab', 'ba')]
  found = trained.verdicts('Fig. 2', claims, 'claim')
  assert found['trends'] == claims and found['trends_that_hold'] == '1 of 2'
  why = 'not reproduced: b above a (few steps)'
  assert found['summary'] == {'item': 'Fig. 2', 'paper': 'claim', 'ours': 'trends: 1 of 2', 'why': why}


def test_one_photograph(monkeypatch):
  monkeypatch.setattr(trained.runs, 'test_images', lambda options: [('a.png', None)] * options.count)
  for scale, photos, count, expected in (
    ('smoke', None, 4, True),
    ('smoke', 'folder', 1, True),
    ('smoke', 'folder', 2, False),
    ('paper', None, 0, False),
  ):
    assert trained.one_photograph(argparse.Namespace(scale=scale, photos=photos, count=count)) == expected


def test_a_figure_becomes_pixels():
  figure = Figure(figsize=(2, 1))
  figure.subplots().plot([0, 1])
  pixels = trained.rasterise(figure)
  assert pixels.shape == (80, 160, 3) and pixels.dtype == np.uint8 and pixels.std() > 0


@pytest.mark.parametrize('mode', fig2_finetuning.MODES)
def test_what_fine_tuning_moves(model, mode):
  """Frozen: the restorer alone; else the encoder too. The restorer's gradient is that of L_Res, whatever trains it."""
  options = {'b1': 0.0, 'b2': 0.0, 'weight_decay': 0.0, 'clip_norm': 0.0, 'warmup_steps': 0}
  optimizer = optim.Optimizer(learning_rate=1e-3, final_learning_rate=1e-3, first_step=0, last_step=1, **options)
  params = {name: model.params[name] for name in ('restorer', 'vae')}
  clean = jnp.asarray(RNG.uniform(0, 1, (1, 32, 32, 3)).astype(np.float32))
  batch = {'clean': clean, 'degraded': 0.5 * clean}
  moved = {}
  for name in ('frozen', mode):
    step = jax.jit(fig2_finetuning.make_step(model.networks, optimizer, name, cutoff=0.25))
    opt = optimizer.init(params)
    moved[name], *_ = step(params, opt, model.params['restorer_stats'], model.params['latent'], batch, np.int32(0))

  def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))

  assert not same(moved[mode]['restorer'], params['restorer'])
  assert same(moved[mode]['vae']['encoder'], params['vae']['encoder']) == (mode == 'frozen')
  assert same(moved[mode]['vae']['decoder'], params['vae']['decoder'])
  for a, b in zip(jax.tree.leaves(moved[mode]['restorer']), jax.tree.leaves(moved['frozen']['restorer']), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_ceiling_that_falls_is_the_reason():
  rows = [{'psnr_ceiling': 25.5}, {'psnr_ceiling': 12.4}]
  assert 'VAE(clean), the ceiling, falls from 25.50 to 12.40 dB' in fig2_finetuning.reason(rows, 'smoke')
  steps = ' of 8000 steps of fine-tuning'
  assert fig2_finetuning.reason(rows[:1], 'smoke').endswith(steps) and steps not in fig2_finetuning.reason(
    rows[:1], 'paper'
  )


def test_both_branches_at_zero_are_the_model_of_2a(model):
  images = RNG.integers(0, 256, (1, 32, 32, 3), np.uint8)
  plain = trained.Trained(model.networks, fig2_finetuning.without_lora(model.params))
  np.testing.assert_array_equal(plain.restore(images, alpha=0.0), plain.restore(images, alpha=1.0))
  assert np.any(plain.restore(images, alpha=1.0) != model.restore(images, alpha=1.0))


def test_latents_that_follow_content_or_degradation():
  content, degradation = RNG.standard_normal((2, 4, 8, 8, 3))
  noise = 0.1 * RNG.standard_normal((3, 4, 8, 8, 3))
  by_content = {task: content + noise[i] for i, task in enumerate(('clean', 'haze', 'blur'))}
  by_degradation = {task: degradation[i] + noise[i] for i, task in enumerate(by_content)}
  options = {'grid': (4, 4), 'seed': 0}
  first, second = (fig2_latents.measure(z, **options, one_photograph=False) for z in (by_content, by_degradation))
  assert first['cdcs'] > 0.9 > second['cdcs'] and first['cdcs_gap'] > 0.5 > second['cdcs_gap']
  assert first['silhouette_content'] > 0.3 > first['silhouette_degradation']
  assert second['silhouette_degradation'] > 0.3 > second['silhouette_content']
  assert len(first['tsne']) == 12 and first['tsne'][4][:2] == ['haze', 0]
  one = fig2_latents.measure(by_content, **options, one_photograph=True)
  assert {name for name, value in one.items() if value is None} == {'cdcs_gap', 'silhouette_content'}
  fig2_latents.picture({'VAE1': first, 'VAE2': second, 'LH-VAE': first})
  assert fig2_latents.or_none(np.array([1.0, np.nan])) == [1.0, None]


def test_maps_of_a_latent():
  z = RNG.standard_normal((1, 8, 6, 8))
  mean, components = supp_fig5.maps(z[0])
  assert mean.shape == (8, 6) and components.shape == (8, 6, 3)
  assert np.corrcoef(mean.ravel(), z[0].mean(axis=-1).ravel())[0, 1] > 0.99
  found = supp_fig5.measure(2.0 * z, z, grid=(8, 6))
  assert found['high_frequency_share_common'] == pytest.approx(found['high_frequency_share'])
  assert found['displacement'] == pytest.approx(np.linalg.norm(z) / np.linalg.norm(z - z.mean(axis=(1, 2))), rel=1e-6)


@pytest.mark.parametrize('scale', supp_fig7.GRIDS)
def test_every_point_of_the_grid_is_a_variant(scale):
  options = runs.parser('').parse_args(['--scale=smoke'])
  fields = {'lambda_Inv': 'losses.invariance', 'lambda_Eqv': 'losses.equivariance', 'rank': 'lora.rank'}
  for name, values in supp_fig7.GRIDS[scale].items():
    for value in values:
      section, key = fields[name].split('.')
      assert runs.config(supp_fig7.variant(name, value), options)[section][key] == value


@pytest.mark.parametrize(
  ('others', 'holds', 'why'),
  [
    ({'0.4': 20.0, '1.0': 20.5}, True, ''),
    ({'0.4': 22.0, '1.0': 20.0}, False, 'few steps'),
    ({'0.4': 20.0, '1.0': 20.95}, None, 'difference below resolution (0.1)'),
    ({'0.4': 20.0}, None, 'the best lies at the end of the grid'),
    ({}, None, 'a grid of one value'),
  ],
)
def test_best_of_a_grid(others, holds, why):
  values = dict(sorted((others | {'0.8': 21.0}).items()))
  found = supp_fig7.best('lambda_Inv', {value: {'psnr_y': psnr} for value, psnr in values.items()}, why='few steps')
  assert (found['holds'], found['why'], found['values']) == (holds, why, values)
