"""`experiments/trends.py`: what is noise is not judged, and every trend that did not come out has its own reason."""

import sys

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import scales  # noqa: E402
import study_scores  # noqa: E402
import trends  # noqa: E402


def found(metric, first, second):
  return trends.higher('c', metric, {'a': first, 'b': second}, why='reason', missing='absent')


@pytest.mark.parametrize(
  ('metric', 'first', 'second', 'holds', 'why'),
  [
    ('psnr_y', 22.2, 22.0, True, ''),
    ('psnr_y', 22.0, 22.2, False, 'reason'),
    ('psnr_restored', 22.05, 22.0, None, 'difference below resolution (0.1)'),
    ('psnr_y', float('inf'), float('inf'), None, 'difference below resolution (0.1)'),
    ('lpips', 0.640366, 0.640433, None, 'difference below resolution (0.005)'),
    ('lpips_alex', 0.65, 0.64, True, ''),
    ('cdcs_gap', None, 0.5, None, 'absent'),
  ],
)
def test_a_difference_counts_from_its_margin_on(metric, first, second, holds, why):
  trend = found(metric, first, second)
  assert (trend['holds'], trend['why']) == (holds, why)
  assert trend['claim'] == 'c' and trend['metric'] == metric and trend['values'] == {'a': first, 'b': second}


def test_unknown_metrics_have_no_margin():
  with pytest.raises(ValueError, match="No margin is known for 'speed'; known: psnr, ssim"):
    trends.margin('speed')


def test_models_that_lack_a_metric():
  models = {'a': {'psnr': 2.0}, 'b': {'psnr': 1.0}, 'c': {}}
  assert trends.of_models('?', 'psnr', 'a', 'b', models, why='')['holds'] is True
  unknown = trends.of_models('?', 'psnr', 'a', 'c', models, why='')
  assert (unknown['holds'], unknown['why']) == (None, 'not computed')


def test_counts_and_reasons_for_people():
  several = [found('psnr', 2.0, 1.0), found('psnr', 1.0, 2.0), *[found('psnr', 1.0, 1.0)] * 3, found('psnr', None, 1.0)]
  assert trends.count(several) == '1 of 2, 4 cannot be told'
  assert trends.count(several[:2]) == '1 of 2'
  assert trends.why(several) == (
    'not reproduced: c (reason); cannot be told: 3 trends (difference below resolution (0.1)); '
    'cannot be told: c (absent)'
  )
  assert trends.why(several[:1]) == ''


def test_short_training_as_a_reason():
  assert scales.few_steps('smoke', 'stage1.steps') == '240 of 64000 stage-1 steps'
  assert (
    scales.few_steps('smoke') == '240 of 64000 stage-1 steps and 300 of 24000 restorer steps and 40 of 8000 LoRA steps'
  )
  assert 'full schedule' in scales.few_steps('paper')


def row(method, mean, low, high):
  return {'method': method, 'mean': mean, 'low': low, 'high': high}


@pytest.mark.parametrize(
  ('rows', 'holds', 'why'),
  [
    ([row('LH', 8.0, 7.5, 8.5), row('peer', 5.0, 4.5, 5.5)], True, ''),
    ([row('peer', 8.0, 7.5, 8.5), row('LH', 5.0, 4.5, 5.5)], False, 'the raters prefer peer'),
    ([row('LH', 8.0, 7.0, 9.0), row('peer', 7.0, 6.0, 8.0)], None, 'the intervals of LH and peer overlap'),
    ([row('LH', 8.0, 8.0, 8.0), row('peer', 8.0, 8.0, 8.0)], None, 'the intervals of LH and peer overlap'),
    ([row('LH', 8.0, 7.5, 8.5), row('LH, faithful end', 5.0, 4.5, 5.5)], None, 'no other method takes part (--method)'),
    ([row('peer', 8.0, 7.5, 8.5)], None, 'no scores of LH'),
  ],
)
def test_a_study_is_judged_beyond_its_intervals_and_against_others(rows, holds, why):
  verdict = study_scores.verdict(rows, ['LH', 'LH, faithful end'])
  assert (verdict['holds'], verdict['why']) == (holds, why)
  assert verdict['values'] == {one['method']: one['mean'] for one in rows}
