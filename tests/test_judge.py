"""lh_jax.judge: shares of an evaluation, and that nothing is lost or doubled when they are put together."""

import numpy as np
import pytest

from lh_jax import html_report
from lh_jax import judge
from lh_jax import measure
from lh_jax import protocols
from lh_jax import synthesis
from lh_jax.data import items
from lh_jax.metrics import fid

RNG = np.random.default_rng(0)
UHD = measure.Measure(protocol=protocols.get('uhd'))


class Halves:
  """A model that halves images; its VAE changes nothing."""

  def restore(self, image, *, alpha):
    return (image * alpha).astype(np.uint8)

  def reconstruct(self, image):
    return image


def source(names, broken=()):
  images = {name: RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8) for name in names}

  def read(index):
    if names[index] in broken:
      raise ValueError(f'{names[index]} is damaged')
    return {'clean': images[names[index]], 'degraded': 255 - images[names[index]]}

  return items.Source([items.Item(name=name, height=24, width=32) for name in names], read, cache_gib=0.0)


def share(sets, units, process=0, count=1, worst=1):
  one = judge.Judge(Halves(), UHD, alpha=0.5, severity=0.5, worst=worst)
  return one.share(sets, units, process, count)


def units(names, tasks=('haze',)):
  return [judge.Unit('s', index, name, tasks) for index, name in enumerate(names)]


def test_shares_make_the_whole():
  names = list('abcde')
  sets, plan = {'s': source(names)}, units(names)
  whole = share(sets, plan)
  parts = [share(sets, plan, process, 3) for process in range(3)]
  assert [len(part.scores) for part in parts] == [2, 2, 1]
  assert judge.merge(plan, parts) == judge.merge(plan, [whole]) == whole.scores
  assert [score['name'] for score in whole.scores] == names
  # The picture of the first image is made once, by the process that has it.
  assert [list(part.pictures) for part in parts] == [[('s', 'haze')], [], []]
  lowest = min(whole.scores, key=lambda score: score['psnr_y_restored'])
  (case,) = judge.worst(parts, 1)
  assert case.name == lowest['name'] == judge.worst([whole], 1)[0].name and case.group == 's: haze'
  assert list(case.whole) == ['input', 'restored', 'VAE(clean)', 'clean']


def test_scores_of_input_restored_and_ceiling():
  sets = {'s': source(['a'])}
  (score,) = share(sets, units(['a'])).scores
  item = sets['s'][0]
  for column, image in (('input', item['degraded']), ('restored', (item['degraded'] * 0.5).astype(np.uint8))):
    for metric, value in UHD.score(image, item['clean']).items():
      assert score[f'{metric}_{column}'] == value
  assert score['psnr_rgb_ceiling'] == np.inf and (score['height'], score['width']) == (24, 32)


def test_frechet_distances_are_those_of_all_images(monkeypatch):
  """Two processes' features, put together, are the whole set's; one image is no set."""
  measured = measure.Measure(protocol=protocols.get('uhd'), inception=lambda image: image.reshape(1, -1)[:, :2048])
  sets, plan = {'s': source(['a', 'b', 'c'])}, units(['a', 'b', 'c'])
  parts = [judge.Judge(Halves(), measured, alpha=0.5, severity=0.5, worst=0) for _ in range(2)]
  for process, part in enumerate(parts):
    part.share(sets, plan, process, 2)
  monkeypatch.setattr(judge.parallel, 'gather', lambda value: [value, other.pop(0)])
  other = [parts[1].statistics['s', 'haze', column] for column in (*judge.COLUMNS, judge.REFERENCE)]
  found = judge.distances(plan, parts[0].statistics)['s', 'haze']
  clean, degraded = (
    np.stack([sets['s'][index][kind].reshape(-1)[:2048] for index in range(3)]) for kind in ('clean', 'degraded')
  )
  expected = [fid.Statistics.empty() for _ in range(2)]
  for statistics, features in zip(expected, (clean, degraded)):
    statistics.add(features)
  assert found['input'] == pytest.approx(fid.distance(*expected), rel=1e-6) and found['input'] > 1000
  assert found['ceiling'] == pytest.approx(0, abs=1e-5 * found['input'])
  monkeypatch.setattr(judge.parallel, 'gather', lambda value: [value])
  assert judge.distances(units('b'), parts[1].statistics) == {('s', 'haze'): {}}


def test_a_failure_is_handed_on_where_others_wait():
  sets, plan = {'s': source(['a', 'b', 'c'], broken=('b',))}, units(['a', 'b', 'c'])
  with pytest.raises(ValueError, match='b is damaged'):
    share(sets, plan)
  parts = [share(sets, plan, process, 2) for process in range(2)]
  assert parts[0].failure is None and len(parts[0].scores) == 2
  with pytest.raises(RuntimeError, match='The evaluation failed on process 1: .*b is damaged'):
    judge.merge(plan, parts)


@pytest.mark.parametrize('names', [['a'], ['a', 'b', 'b'], ['a', 'b', 'x'], []])
def test_lost_and_doubled_images_are_found(names):
  scores = [{'set': 's', 'task': 'haze', 'name': name} for name in names]
  with pytest.raises(RuntimeError, match='The evaluation lost or doubled images'):
    judge.merge(units(['a', 'b']), [judge.Share(scores=scores)])


def test_degraded_versions_depend_on_name_and_task_alone():
  item = {'name': 'x.png', 'clean': np.full((16, 16, 3), 128, np.uint8)}
  one = judge.degraded_version(item, 'noise25', 0.5)
  np.testing.assert_array_equal(one, judge.degraded_version(item, 'noise25', 0.5))
  np.testing.assert_array_equal(
    one, synthesis.synthesise(item['clean'], name='x.png', task='noise25', severity=0.5, seed=0)
  )
  assert (judge.degraded_version(item | {'name': 'y.png'}, 'noise25', 0.5) != one).any()
  paired = judge.degraded_version(item | {'degraded': item['clean']}, 'noise25', 0.5)
  np.testing.assert_array_equal(paired, item['clean'])


def test_cells():
  score = {f'psnr_y_{column}': value for column, value in zip(judge.COLUMNS, (1.0, 2.346, np.inf))}
  assert judge.cells(score, ['psnr_y', 'lpips_alex']) == ['1.00 → 2.35 (inf)', '-']


def test_no_pictures_of_cases_are_made_for_nothing(monkeypatch):
  monkeypatch.setattr(html_report, 'case', lambda *args, **options: pytest.fail('a case was drawn'))
  assert share({'s': source(['a'])}, units(['a']), worst=0).cases == []
