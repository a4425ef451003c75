"""`experiments/goals.py`: what holds and what does not, on rows that are known by hand."""

import sys

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import goals  # noqa: E402


def row(task: str, given: float, classical: float, psnr: list[float], lpips: list[float] | None = None, ceiling=30.0):
  found = {'task': task, 'psnr_rgb_input': given, 'psnr_rgb_classical': classical, 'psnr_rgb_ceiling': ceiling}
  found |= {f'psnr_rgb_{goals.column(alpha)}': value for alpha, value in zip(goals.ALPHAS, psnr)}
  found |= {f'lpips_alex_{goals.column(alpha)}': value for alpha, value in zip(goals.ALPHAS, lpips or [])}
  return found


ROWS = [
  row('clean', float('inf'), 0.0, [29.4, 29.4, 29.5, 29.6, 29.4], [0.1] * 5),
  row('haze', 20.0, 22.0, [21.0, 21.0, 21.5, 22.0, 23.0], [0.1, 0.2, 0.2, 0.3, 0.4]),
  row('blur', 25.0, 24.0, [26.0, 25.5, 25.0, 24.5, 24.0], [0.1, 0.2, 0.1, 0.3, 0.4]),
]


def holding(goal: str, found=None) -> dict:
  return {
    (one['task'], one['metric'], next(iter(one['values']))): one['holds']
    for one in found or goals.judged(ROWS)
    if one['goal'] == goal
  }


def test_above_is_strictly_above():
  assert holding('above_input') == {
    ('haze', 'psnr_rgb', 'alpha_0.5'): True,
    ('blur', 'psnr_rgb', 'alpha_0.5'): False,
    ('haze', 'psnr_rgb', 'alpha_1'): True,
    ('blur', 'psnr_rgb', 'alpha_1'): False,
  }
  assert holding('above_classical') == {
    ('haze', 'psnr_rgb', 'alpha_0.5'): False,
    ('blur', 'psnr_rgb', 'alpha_0.5'): True,
    ('haze', 'psnr_rgb', 'alpha_1'): True,
    ('blur', 'psnr_rgb', 'alpha_1'): False,
  }
  (found,) = [one for one in goals.judged(ROWS[1:2]) if one['goal'] == 'above_input' and 'alpha_1' in one['values']]
  assert found['values'] == {'alpha_1': 23.0, 'input': 20.0}


def test_alpha_may_stand_still_but_not_fall():
  assert holding('rises_with_alpha') == {
    ('haze', 'psnr_rgb', 'alpha_0'): True,
    ('blur', 'psnr_rgb', 'alpha_0'): False,
    ('average', 'psnr_rgb', 'alpha_0'): False,  # 23.25 at 0.25 and at 0.5, 23.5 at 0
    ('haze', 'lpips_alex', 'alpha_0'): True,
    ('blur', 'lpips_alex', 'alpha_0'): False,
    ('average', 'lpips_alex', 'alpha_0'): False,
  }
  (average,) = [one for one in goals.judged(ROWS[:2]) if one['task'] == 'average' and one['metric'] == 'psnr_rgb']
  assert average['holds'] and average['values']['alpha_1'] == 23.0  # clean photographs are left out


def test_clean_photographs_may_lose_half_a_decibel():
  assert list(holding('keeps_clean').values()) == [True, False]
  assert [one['task'] for one in goals.judged(ROWS[1:]) if one['goal'] == 'keeps_clean'] == []


def test_a_metric_that_was_not_computed_decides_nothing():
  found = goals.judged([row('haze', 20.0, 22.0, [21.0] * 5)])
  assert list(holding('rises_with_alpha', found).values()) == [True, True, None, None]
  assert goals.summary(found)[-1] == 'LPIPS Alex, not falling as alpha rises: 0 of 0; 2 not computed'


def test_words_and_tables():
  lines = goals.summary(goals.judged(ROWS))
  assert lines[0] == 'PSNR RGB (dB), alpha 0.5, above the degraded input: 1 of 2; not blur'
  assert lines[-1].endswith('alpha 1, clean photographs at most 0.5 dB below VAE(clean): 0 of 1; not clean')
  table = goals.table(ROWS, 'psnr_rgb', unseen=['blur']).splitlines()
  assert table[0] == (
    '| PSNR RGB (dB) | input | classical | VAE(clean) | alpha 0 | alpha 0.25 | alpha 0.5 | alpha 0.75 | alpha 1 |'
  )
  assert table[4] == '| blur (unseen) | 25.00 | 24.00 | 30.00 | 26.00 | 25.50 | 25.00 | 24.50 | 24.00 |'
  compact = goals.compact(ROWS[1:2], {'haze': 'dark_channel'}).splitlines()
  assert compact[0] == '| task | PSNR RGB (dB) | LPIPS Alex | best classical method |'
  assert compact[2] == '| haze | 20.00 → 22.00 → 21.50 (30.00) | - → - → 0.2000 (-) | dark_channel |'
  assert goals.compact([row('haze', 20.0, 22.0, [21.0] * 5)], {}).splitlines()[2].endswith('(30.00) | - | - |')
