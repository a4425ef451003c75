"""lh_jax.evaluate: the plan, the tables and their columns, several data sets, several devices, and the files."""

import csv
import json
import math

import jax
import numpy as np
from PIL import Image
import pytest

import lh_jax
from lh_jax import evaluate
from lh_jax import exports
from lh_jax import judge
from lh_jax import measure
from lh_jax import networks as networks_lib
from lh_jax import parallel
from lh_jax import protocols
from lh_jax.data import items
from lh_jax.metrics import fid
from lh_jax.metrics import niqe


WITHOUT = {'niqe': 'not computed: no model was named', 'fid': 'not computed: no Inception weights were named'}


@pytest.fixture(name='workdir')
def _workdir(tmp_path, tiny_config):
  tiny_config.evaluate.lpips = 'none'
  sections = {name: tiny_config[name].to_dict() for name in networks_lib.SECTIONS}
  params = jax.device_get(jax.jit(networks_lib.build(sections).init)(jax.random.key(0)))
  exports.save(tmp_path / 'run' / 'export', exports.Export(sections=sections, params=params, stage='stage2'))
  return tmp_path / 'run'


def write_images(folder, names, size=(24, 32)):
  folder.mkdir(parents=True)
  for name in names:
    pixels = np.random.default_rng(len(str(folder)) + ord(name)).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f'{name}.png')


def test_a_metric_that_another_process_lacks_is_left_out(workdir, tmp_path, tiny_config, monkeypatch):
  write_images(tmp_path / 'clean', 'a')
  tiny_config.evaluate.update({'source': 'folder', 'path': str(tmp_path / 'clean'), 'tasks': ('noise25',)})
  monkeypatch.setattr(measure, '_load_lpips', lambda *_: ({'alex': lambda *_: 0.5}, {}))
  assert evaluate.evaluate(tiny_config, workdir)[0]['lpips_alex_input'] == 0.5
  lacks = {'lpips_alex': 'not computed: elsewhere'}

  def gather(value):
    return [value, lacks] if isinstance(value, dict) and 'SHA-256' not in value else [value]

  monkeypatch.setattr(parallel, 'gather', gather)
  assert 'lpips_alex_input' not in evaluate.evaluate(tiny_config, workdir)[0]
  assert json.loads((workdir / 'evaluation' / 'results.json').read_text())['not_computed'] == lacks | WITHOUT


def test_pairs(workdir, tmp_path, tiny_config):
  """The input's column is the metric of the pair itself; every file tells the same."""
  data = tmp_path / 'data'
  for half in ('gt', 'input'):
    write_images(data / half, 'ab')
  tiny_config.evaluate.update({'source': 'pairs', 'path': str(data), 'alpha': 1.0})
  rows = evaluate.evaluate(tiny_config, workdir)
  assert [(row['set'], row['task'], row['images']) for row in rows] == [('pairs', 'paired', 2)]
  pair = [[np.asarray(Image.open(data / half / f'{name}.png'), float) for half in ('gt', 'input')] for name in 'ab']
  expected = np.mean([10 * np.log10(255**2 / np.mean((a - b) ** 2)) for a, b in pair])
  assert rows[0]['psnr_rgb_input'] == pytest.approx(expected, abs=1e-3)
  folder = workdir / 'evaluation'
  report = json.loads((folder / 'results.json').read_text())
  assert report['rows'] == rows and report['alpha'] == 1.0 and report['config']['evaluate']['source'] == 'pairs'
  assert report['protocol']['name'] == 'uhd' and report['protocol']['version'] == protocols.get('uhd').version
  assert report['lh_jax'] == lh_jax.__version__ and report['jax'] == jax.__version__ and report['device'] == 'cpu'
  assert report['sets']['pairs']['images'] == 2 and len(report['sets']['pairs']['sha256']) == 64
  assert report['checkpoint']['path'] == str(workdir / 'export' / 'params.safetensors')
  assert report['not_computed'] == {'lpips_alex': 'not computed: left out (lpips none)'} | WITHOUT
  with open(folder / 'images.csv', newline='') as stream:
    lines = list(csv.DictReader(stream))
  assert [line['name'] for line in lines] == ['a.png', 'b.png'] and lines[0]['lpips_alex_input'] == ''
  assert math.fsum(float(line['ssim_y_restored']) for line in lines) / 2 == rows[0]['ssim_y_restored']
  table = (folder / 'table.md').read_text()
  assert (
    '| paired | 2 |' in table
    and 'LPIPS Alex is not computed' in table
    and 'NIQE is not computed: no model was named' in table
    and 'average' not in table
  )
  assert np.asarray(Image.open(folder / 'comparison.png')).shape[1] > 4 * 32
  page = (folder / 'report.html').read_text()
  assert '2 of 2 scored images' in page and report['checkpoint']['sha256'] in page


def test_niqe_and_fid(workdir, tmp_path, tiny_config, monkeypatch):
  """NIQE in every column, FID of each row with two images, and the files of their models in the result."""
  niqe.save(tmp_path / 'pristine.npz', niqe.Model(np.zeros(niqe.FEATURES), np.eye(niqe.FEATURES)))
  (tmp_path / 'inception.safetensors').write_bytes(b'weights')
  monkeypatch.setattr(fid, 'load', lambda path: lambda image: np.float32(image[:24, :32].reshape(1, -1)[:, :2048]))
  write_images(tmp_path / 'two', 'ab', size=(96, 192))
  write_images(tmp_path / 'one', 'a', size=(96, 192))
  tiny_config.evaluate.update(
    {
      'sets': (f'two=folder:{tmp_path / "two"}', f'one=folder:{tmp_path / "one"}'),
      'tasks': ('noise50',),
      'niqe': str(tmp_path / 'pristine.npz'),
      'fid': str(tmp_path / 'inception.safetensors'),
    }
  )
  two, one = evaluate.evaluate(tiny_config, workdir)
  assert two['fid_input'] > 0 and two['fid_ceiling'] > 0 and two['niqe_restored'] > 0
  assert 'fid_input' not in one and one['niqe_input'] > 0
  report = json.loads((workdir / 'evaluation' / 'results.json').read_text())
  assert set(report['models']) == {'niqe', 'fid'} and set(report['not_computed']) == {'lpips_alex'}
  table = (workdir / 'evaluation' / 'table.md').read_text()
  assert '| NIQE | FID |' in table and 'FID of one: noise50 is not computed: takes two images.' in table
  assert 'niqe_ceiling' in (workdir / 'evaluation' / 'images.csv').read_text().splitlines()[0]


def test_embedded_photograph(workdir, tiny_config):
  tiny_config.evaluate.update({'tasks': ('noise50',), 'report_images': 0})
  (row,) = evaluate.evaluate(tiny_config, workdir)
  assert row['task'] == 'noise50' and 13.5 < row['psnr_rgb_input'] < 15.5
  assert '0 of 1 scored images' in (workdir / 'evaluation' / 'report.html').read_text()


def test_several_sets_on_eight_devices(workdir, tmp_path, tiny_config):
  """Rows of images that do not divide over the devices; the same as on one device."""
  write_images(tmp_path / 'one', 'abc', size=(39, 32))
  for half in ('gt', 'input'):
    write_images(tmp_path / 'two' / half, 'ab', size=(39, 32))
  sets = (f'folder:{tmp_path / "one"}', f'real=pairs:{tmp_path / "two"}')
  tiny_config.evaluate.update({'sets': sets, 'tasks': ('noise15',), 'report_images': 3})
  one = evaluate.evaluate(tiny_config, workdir)
  assert [(row['set'], row['task'], row['images']) for row in one] == [
    ('folder', 'noise15', 3),
    ('real', 'paired', 2),
  ]
  table = (workdir / 'evaluation' / 'table.md').read_text()
  assert '| folder: noise15 | 3 |' in table and '| average | 2 rows |' in table
  assert 'plain mean of the rows folder: noise15, real: paired' in table
  assert '4 of 5 scored images' in (workdir / 'evaluation' / 'report.html').read_text()
  tiny_config.evaluate.devices = 8
  eight = evaluate.evaluate(tiny_config, workdir)
  assert json.loads((workdir / 'evaluation' / 'results.json').read_text())['device'] == '8 x cpu'
  for ours, theirs in zip(eight, one, strict=True):
    assert ours == pytest.approx(theirs, abs=2e-3)


def test_a_task_folder_of_clean_images_serves_its_own_task(workdir, tmp_path, tiny_config):
  """As in the paper's settings: pairs for low light, clean images for noise, which leave the pairs' row alone."""
  for half in ('low_light/gt', 'low_light/input', 'noise/gt'):
    write_images(tmp_path / 'data' / half, 'ab')
  tiny_config.evaluate.update(
    {'source': 'pairs', 'path': str(tmp_path / 'data'), 'tasks': ('low_light', 'noise15', 'noise25')}
  )
  rows = evaluate.evaluate(tiny_config, workdir)
  assert {row['task']: row['images'] for row in rows} == {'low_light': 2, 'noise15': 2, 'noise25': 2}
  tiny_config.evaluate.max_images = 1
  assert {row['images'] for row in evaluate.evaluate(tiny_config, workdir)} == {1}


def source(*entries):
  made = [items.Item(name=name, height=8, width=8, task=task, degraded=twin) for name, task, twin in entries]
  return items.Source(made, lambda index: {}, cache_gib=0.0)


def test_plan():
  sets = {
    's': source(('a', 'haze', 'a.png'), ('b', 'noise', None), ('c', 'noise', None)),
    't': source(('a', None, None)),
  }
  assert evaluate.plan(sets, ('noise15', 'noise50'), 0) == [
    judge.Unit('s', 0, 'a', ('haze',)),
    judge.Unit('s', 1, 'b', ('noise15', 'noise50')),
    judge.Unit('s', 2, 'c', ('noise15', 'noise50')),
    judge.Unit('t', 0, 'a', ('noise15', 'noise50')),
  ]
  assert [unit.name for unit in evaluate.plan(sets, ('noise15',), 1)] == ['a', 'b', 'a']
  drops = source(('a', 'raindrop', 'a.png'))
  assert evaluate.plan({'s': drops}, ('raindrop',), 0) == [judge.Unit('s', 0, 'a', ('raindrop',))]
  with pytest.raises(ValueError, match='The data set t has clean images alone, and raindrop is not modelled'):
    evaluate.plan({'t': sets['t']}, ('haze', 'raindrop'), 0)
  with pytest.raises(ValueError, match='The data set s has two images named a'):
    evaluate.plan({'s': source(('a', None, None), ('a', None, None))}, ('haze',), 0)
  with pytest.raises(ValueError, match='There is no image to evaluate in s, t'):
    evaluate.plan({'s': source(), 't': source()}, ('haze',), 0)
  with pytest.raises(ValueError, match="has clean images for 'noise', which evaluate.tasks does not name"):
    evaluate.plan(sets, ('haze',), 0)


def test_parse_set():
  assert evaluate.parse_set('embedded') == ('embedded', 'embedded', '')
  assert evaluate.parse_set('pairs:C:/x=y') == ('pairs', 'pairs', 'C:/x=y')
  assert evaluate.parse_set('ll=pairs:/data') == ('ll', 'pairs', '/data')


def test_table_says_where_nothing_improved():
  uhd = measure.Measure(protocol=protocols.get('uhd'))
  row = {'set': 's', 'task': 'a', 'images': 1} | {
    f'{metric}_{column}': value for column, value in zip(judge.COLUMNS, (20.0, 19.0, 30.0)) for metric in uhd.metrics
  }
  better = row | {'task': 'b', 'psnr_y_restored': 25.0}
  equal = row | {'task': 'c', 'psnr_y_input': np.inf, 'psnr_y_restored': np.inf}
  titles, lines = evaluate.table([row, better], uhd)
  assert titles[:3] == ['task', 'images', 'PSNR Y (dB)'] and titles[-1] == 'gain (dB)'
  assert [line[-1] for line in lines] == ['-1.00 (no improvement)', '+5.00', '+2.00']
  assert lines[2][:3] == ['average', '2 rows', '20.00 → 22.00 (30.00)']
  assert evaluate.table([equal], uhd)[1][0][-1] == '+0.00 (no improvement)'


def test_the_hash_tells_data_sets_apart(tmp_path):
  (tmp_path / 'a.png').write_bytes(b'12345')
  item = items.Item(name='a', height=8, width=8, clean=tmp_path / 'a.png')
  one = evaluate.listing(items.from_files([item], cache_gib=0.0))
  assert one['images'] == 1
  (tmp_path / 'a.png').write_bytes(b'123456')
  assert evaluate.listing(items.from_files([item], cache_gib=0.0))['sha256'] != one['sha256']


@pytest.mark.parametrize(
  'change, message',
  [
    ({'tasks': ('fog',)}, r"evaluate.tasks must name some of .*'low_light'.*got \('fog',\)"),
    ({'tasks': ()}, 'evaluate.tasks must name some of'),
    ({'alpha': 2.0}, r'evaluate.alpha must lie in \[0, 1\], got 2.0'),
    ({'severity': -0.5}, r'evaluate.severity must lie in \[0, 1\]'),
    ({'max_images': -1}, 'evaluate.max_images must be at least 0'),
    ({'report_images': -1}, 'evaluate.report_images must be at least 0'),
    ({'protocol': 'psnr'}, "Unknown protocol 'psnr'"),
    ({'lpips': 'both'}, "evaluate.lpips must be one of auto, none, got 'both'"),
    ({'devices': 9}, 'devices must lie between 1 and 8'),
    ({'sets': ('embedded', 'embedded')}, 'evaluate.sets has several data sets named embedded'),
    ({'split': 'exam'}, "unknown split 'exam'"),
    ({'sets': ('x=pears:/data',)}, "unknown source 'pears'"),
    ({'source': 'folder'}, 'evaluate.path'),
  ],
)
def test_errors(tiny_config, change, message):
  tiny_config.evaluate.update(change)
  with pytest.raises(ValueError, match=message):
    evaluate.open_sets(tiny_config)
