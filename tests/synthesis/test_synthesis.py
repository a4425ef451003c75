"""The rule from a name to pixels: exact bits, golden pixels, any process and order; errors; the contact sheet."""

import hashlib
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from lh_jax import synthesis
from lh_jax.ops import degradations
from tests.conftest import ROOT
from tests.synthesis import make_golden

GOLDEN = ROOT / 'tests' / 'fixtures' / 'synthesis_golden.npz'
# A tenth of a percent may round otherwise elsewhere. Moiré's phases count a thousand periods in float32, which leaves
# them a tenth of a level.
MAY_DIFFER = {'moire': 0.01}


def check_golden(found) -> None:
  golden = np.load(GOLDEN)
  assert tuple(golden) == degradations.BENCHMARK
  for task in found:
    difference = np.abs(found[task].astype(int) - golden[task])
    assert difference.max() <= 1, task
    assert (difference > 0).mean() < MAY_DIFFER.get(task, 0.001), task


def degraded(task: str) -> np.ndarray:
  return synthesis.synthesise(
    make_golden.clean(), name=make_golden.NAME, task=task, severity=make_golden.SEVERITY, seed=make_golden.SEED
  )


def run(path: pathlib.Path, *tasks: str, flags: str) -> dict[str, np.ndarray]:
  environment = {**os.environ, 'XLA_FLAGS': flags, 'PYTHONPATH': str(ROOT)}
  subprocess.run([sys.executable, make_golden.__file__, str(path), *tasks], check=True, env=environment, cwd=ROOT)
  return dict(np.load(path))


@pytest.mark.parametrize(
  ('name', 'task', 'seed', 'words', 'bits'),
  [
    ('a.png', 'haze', 0, [0, 3920233798], '4893f3732c80756647f511d4bb5687d39d1ea5cf231a334634936aac48be4b93'),
    ('sub/é.jpg', 'noise25', 7, [7, 190021128], '97aa7ff3a73487579cb2fdef3681d1122ade6612bdd08fb0f767231cbbcd4629'),
    (
      'chelsea.png',
      'haze+low_light',
      2**32 - 1,
      [2**32 - 1, 3755765079],
      '00ac1b1f790d44d101d1d32755aaa406ed88579bcfce3b85bc9bd91ac6db11ab',
    ),
  ],
)
def test_random_bits_are_exact(name, task, seed, words, bits):
  key = synthesis.random_key(name, task, seed)
  assert jax.random.key_data(key).tolist() == words
  drawn = np.asarray(jax.random.bits(key, (64,))).astype('<u4')
  assert hashlib.sha256(drawn.tobytes()).hexdigest() == bits


def test_names_count_the_same_however_accents_are_encoded_and_need_not_be_text():
  composed, decomposed = (jax.random.key_data(synthesis.random_key(name, 'haze')) for name in ('\u00e9', 'e\u0301'))
  np.testing.assert_array_equal(composed, decomposed)
  synthesis.random_key(os.fsdecode(b'\xff.png'), 'haze')


def test_golden_pixels_without_optimisation():
  check_golden({task: degraded(task) for task in reversed(degradations.BENCHMARK)})


def test_golden_pixels_in_another_process_with_the_usual_flags(tmp_path):
  check_golden(run(tmp_path / 'found.npz', flags=''))


def test_processes_agree_exactly_whatever_else_they_synthesise(tmp_path):
  found = run(tmp_path / 'found.npz', 'noise25', 'haze', 'moire', flags=os.environ['XLA_FLAGS'])
  for task, image in found.items():
    np.testing.assert_array_equal(image, degraded(task))


def test_name_task_seed_and_severity_all_count():
  clean = make_golden.clean()
  settings = {'name': 'a.png', 'task': 'noise25', 'severity': 0.5, 'seed': 0}
  first = synthesis.synthesise(clean, **settings)
  assert first.dtype == np.uint8 and first.shape == clean.shape
  for change in ({'name': 'b.png'}, {'task': 'noise15'}, {'seed': 1}):
    assert (synthesis.synthesise(clean, **settings | change) != first).any()
  np.testing.assert_array_equal(synthesis.synthesise(clean, **settings | {'severity': 1.0}), first)
  haze = [synthesis.synthesise(clean, **settings | {'task': 'haze', 'severity': s}) for s in (0.0, 0.4)]
  np.testing.assert_array_equal(haze[0], clean)
  assert (haze[1] != clean).any()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'task': 'fog'}, 'cannot synthesise fog; known tasks: low_light, .*moire, low_light.noise25'),
    ({'severity': 1.5}, r'severity is 1.5; it must lie in \[0, 1\]'),
    ({'seed': -1}, r'seed is -1; it must lie in 0 to 2\^32 - 1'),
    ({'seed': 2**32}, 'seed is 4294967296'),
    ({'clean': np.zeros((16, 16, 3), np.float32)}, r'a.png: a photograph of float32 .* cannot be degraded; it must be'),
    ({'clean': np.zeros((16, 7, 3), np.uint8)}, 'with 8 pixels a side or more'),
    ({'clean': np.zeros((16, 16), np.uint8)}, r'shape \(16, 16\) cannot be degraded'),
  ],
)
def test_errors(change, message):
  settings = {'clean': make_golden.clean(), 'name': 'a.png', 'task': 'haze', 'severity': 0.5}
  with pytest.raises(ValueError, match=message):
    synthesis.synthesise(**settings | change)


def test_crops_are_from_the_centre_and_never_larger():
  image = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3)
  np.testing.assert_array_equal(synthesis.crop(image, (10, 6)), image[7:13, 10:20])
  assert synthesis.crop(image, (100, 6)).shape == (6, 30, 3)
  assert synthesis.crop(image, None) is image


def test_the_contact_sheet_has_a_row_for_each_task_and_a_column_for_each_severity():
  clean = np.tile(make_golden.clean(), (4, 5, 1))  # larger than a cell
  width, height = synthesis.SHEET_CELL
  sheets = [synthesis.contact_sheet(clean, name='a.png', tasks=tasks) for tasks in (('haze',), ('haze', 'noise25'))]
  columns = 1 + len(synthesis.SHEET_SEVERITIES)
  assert sheets[0].shape[1] == sheets[1].shape[1] >= columns * width
  assert sheets[1].shape[0] >= 2 * height and sheets[1].shape[0] - sheets[0].shape[0] > height
  np.testing.assert_array_equal(sheets[1][: height + 20], sheets[0][: height + 20])
  with pytest.raises(ValueError, match='cannot synthesise no task at all'):
    synthesis.contact_sheet(clean, name='a.png', tasks=())
