"""lh_jax.evaluate: the table, its columns, and seeds that depend on file and task alone."""

import json

import jax
import numpy as np
from PIL import Image
import pytest

from lh_jax import evaluate
from lh_jax import exports
from lh_jax import networks as networks_lib


@pytest.fixture(name='workdir')
def _workdir(tmp_path, tiny_config):
  sections = {name: tiny_config[name].to_dict() for name in networks_lib.SECTIONS}
  params = jax.device_get(jax.jit(networks_lib.build(sections).init)(jax.random.key(0)))
  exports.save(tmp_path / 'run' / 'export', exports.Export(sections=sections, params=params, stage='stage2'))
  return tmp_path / 'run'


def test_pairs(workdir, tmp_path, tiny_config):
  """The input's column is the metric of the pair itself."""
  data = tmp_path / 'data'
  rng = np.random.default_rng(0)
  for half in ('gt', 'input'):
    (data / half).mkdir(parents=True)
    for name in ('a', 'b'):
      Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(data / half / f'{name}.png')
  tiny_config.evaluate.update({'source': 'pairs', 'path': str(data), 'alpha': 1.0})
  rows = evaluate.evaluate(tiny_config, workdir)
  assert [(row['task'], row['images']) for row in rows] == [('paired', 2)]
  pair = [[np.asarray(Image.open(data / half / f'{name}.png'), float) for half in ('gt', 'input')] for name in 'ab']
  expected = np.mean([10 * np.log10(255**2 / np.mean((a - b) ** 2)) for a, b in pair])
  assert rows[0]['psnr_rgb_input'] == pytest.approx(expected, abs=1e-3)
  assert json.loads((workdir / 'evaluation' / 'results.json').read_text())['rows'] == rows
  assert '| paired |' in (workdir / 'evaluation' / 'table.md').read_text()
  assert np.asarray(Image.open(workdir / 'evaluation' / 'comparison.png')).shape[1] > 4 * 32


def test_embedded_photograph(workdir, tiny_config):
  tiny_config.evaluate.tasks = ('noise50',)
  (row,) = evaluate.evaluate(tiny_config, workdir)
  assert row['task'] == 'noise50' and 13.5 < row['psnr_rgb_input'] < 15.5


def test_degraded_versions_depend_on_name_and_task_alone():
  item = {'name': 'x.png', 'clean': np.full((16, 16, 3), 128, np.uint8)}
  both = dict(evaluate.degraded_versions(item, ('noise15', 'noise25'), 0.5))
  alone = dict(evaluate.degraded_versions(item, ('noise25',), 0.5))
  np.testing.assert_array_equal(both['noise25'], alone['noise25'])
  other = dict(evaluate.degraded_versions(item | {'name': 'y.png'}, ('noise25',), 0.5))
  assert (other['noise25'] != alone['noise25']).any()
  paired = dict(evaluate.degraded_versions(item | {'degraded': item['clean'], 'task': 'haze'}, ('noise25',), 0.5))
  assert list(paired) == ['haze']


def test_table_says_where_nothing_improved():
  row = {'task': 'a', 'images': 1} | {
    f'{m}_rgb_{c}': v for c, v in zip(evaluate.COLUMNS, (20.0, 19.0, 30.0)) for m in ('psnr', 'ssim')
  }
  better = row | {'task': 'b', 'psnr_rgb_restored': 25.0}
  lines = evaluate.table([row, better]).splitlines()
  assert lines[2].endswith('| -1.00 (no improvement) |') and lines[3].endswith('| +5.00 |')


def test_a_task_folder_of_clean_images_serves_its_own_task(workdir, tmp_path, tiny_config):
  """As in the paper's settings: pairs for low light, clean images for noise, which leave the pairs' row alone."""
  rng = np.random.default_rng(0)
  for half in ('low_light/gt', 'low_light/input', 'noise/gt'):
    (tmp_path / 'data' / half).mkdir(parents=True)
    for name in 'ab':
      image = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
      image.save(tmp_path / 'data' / half / f'{name}.png')
  tiny_config.evaluate.update(
    {'source': 'pairs', 'path': str(tmp_path / 'data'), 'tasks': ('low_light', 'noise15', 'noise25')}
  )
  rows = evaluate.evaluate(tiny_config, workdir)
  assert {row['task']: row['images'] for row in rows} == {'low_light': 2, 'noise15': 2, 'noise25': 2}
  tiny_config.evaluate.max_images = 1
  assert {row['images'] for row in evaluate.evaluate(tiny_config, workdir)} == {1}


@pytest.mark.parametrize(
  'change, message',
  [
    ({'tasks': ('fog',)}, r"evaluate.tasks must name some of .*'low_light'.*got \('fog',\)"),
    ({'tasks': ()}, 'evaluate.tasks must name some of'),
    ({'alpha': 2.0}, r'evaluate.alpha must lie in \[0, 1\], got 2.0'),
    ({'severity': -0.5}, r'evaluate.severity must lie in \[0, 1\]'),
    ({'max_images': -1}, 'evaluate.max_images must be at least 0'),
    ({'source': 'folder'}, 'evaluate.path'),
  ],
)
def test_errors(tiny_config, change, message):
  tiny_config.evaluate.update(change)
  with pytest.raises(ValueError, match=message):
    evaluate.open_source(tiny_config)
