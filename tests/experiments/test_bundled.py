"""`experiments/bundled.py` end to end on a tiny model: what is computed, what is used again, what is written."""

import json
import shutil
import sys

import numpy as np
from PIL import Image
import pytest

from lh_jax import exports
from lh_jax import measure
from lh_jax import networks as networks_lib
from lh_jax import results
from tests.conftest import ROOT
from tests.conftest import tiny_config
from tests.conftest import tiny_model

sys.path.insert(0, str(ROOT / 'experiments'))
import bundled  # noqa: E402
import classical  # noqa: E402
import goals  # noqa: E402
import tuning  # noqa: E402


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  """A model, and training photographs."""
  folder = tmp_path_factory.mktemp('bundled')
  config = tiny_config()
  sections = {name: config[name].to_dict() for name in networks_lib.SECTIONS}
  params = tiny_model()[1]
  exports.save(folder / 'run' / 'export', exports.Export(sections=sections, params=params, stage='stage2'))
  (folder / 'train').mkdir()
  for index in range(2):
    pixels = np.random.default_rng(index).integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(pixels).save(folder / 'train' / f'{index}.png')
  return folder


@pytest.fixture(name='run')
def _run(folder, tmp_path, monkeypatch):
  """Runs the script on the tiny model, one task and one small image; returns the result."""
  monkeypatch.setattr(measure, '_load_lpips', lambda *_: ({}, {'lpips_alex': 'not computed: a test'}))
  monkeypatch.setitem(tuning.TASKS, 'noise25', lambda: [(('median', {'size': size}),) for size in (1, 3)])

  def run(*arguments, output=tmp_path / 'out.json'):
    given = ['--checkpoint', folder / 'run', '--tasks', 'noise25', '--crop', '64', '-o', output, *arguments]
    bundled.main([str(one) for one in given])
    return json.loads(output.read_text())

  return run


def test_a_model_is_scored_judged_and_drawn(run, folder, tmp_path, capsys):
  report = run('--train', folder / 'train', '--label', 'tiny', '--note', 'random', '--picture', tmp_path / 'out.jpg')
  (tried,) = report['tries']
  assert (tried['label'], tried['note'], tried['crop']) == ('tiny', 'random', 64)
  assert tried['sha256'] == results.file_hash(folder / 'run' / 'export' / 'params.safetensors')
  assert tried['made_by']['jax'] and tried['not_computed']['lpips_alex'] and tried['seconds'] > 0
  rows = tried['rows']
  assert [(row['set'], row['task'], row['images']) for row in rows] == [
    (of_set, task, 1) for of_set in ('all', 'embedded') for task in ('clean', 'noise25')
  ]
  names = {f'{metric}_{column}' for metric in ('psnr_rgb', 'ssim_rgb', 'psnr_y', 'ssim_y') for column in goals.COLUMNS}
  assert names <= rows[1].keys() and 'psnr_rgb_input' not in rows[0]
  assert rows[0]['psnr_rgb_ceiling'] == rows[1]['psnr_rgb_ceiling']
  assert 19 < rows[1]['psnr_rgb_input'] < 22 < rows[1]['psnr_rgb_classical']
  assert report['tuning']['tasks']['noise25']['steps'][0][0] == 'median'
  assert report['tuning']['tasks']['noise25']['crops'] == 2
  assert {goal['goal'] for goal in tried['goals']} == goals.TITLES.keys()
  printed = capsys.readouterr().out
  assert '| noise25 | ' in printed and 'above the best classical method: 0 of 1; not noise25' in printed
  with Image.open(tmp_path / 'out.jpg') as drawn:
    assert drawn.width > 5 * 64


def test_what_is_known_is_not_computed_again(run, folder, monkeypatch):
  first = run('--train', folder / 'train')
  assert [one['label'] for one in first['tries']] == ['run']

  def refuse(*_, **__):
    raise AssertionError('computed again')

  monkeypatch.setattr(tuning, 'best', refuse)
  monkeypatch.setattr(classical, 'apply', refuse)
  second = run('--label', 'other')
  assert [one['label'] for one in second['tries']] == ['run', 'other']
  assert second['tries'][0]['rows'] == second['tries'][1]['rows']
  assert second['references'] == first['references'] and second['tuning'] == first['tuning']
  for changed in (['--tune'], ['--severity', '0.4'], ['--train', folder / 'train', '--train-images', '1']):
    with pytest.raises(AssertionError, match='computed again'):
      run(*changed)


def test_the_same_try_again_replaces_the_first(run, folder):
  run('--train', folder / 'train', '--note', 'a')
  assert [one['note'] for one in run('--note', 'b')['tries']] == ['b']


def test_several_sets(run, folder):
  report = run('--photographs', f'mine={folder / "train"}', '--train', folder / 'train')
  found = {(row['set'], row['task']): row for row in report['tries'][0]['rows']}
  assert [found[name, 'noise25']['images'] for name in ('all', 'mine', 'embedded')] == [3, 2, 1]
  means = [found[name, 'noise25']['psnr_rgb_alpha_1'] for name in ('all', 'mine', 'embedded')]
  assert means[0] == pytest.approx((2 * means[1] + means[2]) / 3)
  for given in ('mine', 'embedded=x', '=x'):
    with pytest.raises(ValueError, match='--photographs takes NAME=FOLDER'):
      run('--photographs', given)


def test_the_readmes_show_the_last_model(run, folder, tmp_path, monkeypatch):
  """experiments/README.md the last one tried, the others the bundled one."""
  report = run('--train', folder / 'train')
  with pytest.raises(ValueError, match='holds no try'):
    bundled.pages({**report, 'tries': []})
  weights = shutil.copytree(folder / 'run' / 'export', tmp_path / 'weights')
  files = {'TRIES': tmp_path / 'tries.md', 'README': tmp_path / 'README.md', None: weights / 'README.md'}
  for name, file in files.items():
    file.write_text('\n'.join(('before', *bundled.MARKS, 'after')))
    if name:
      monkeypatch.setattr(bundled, name, file)

  def texts():
    run('--readme')
    found = [file.read_text() for file in files.values()]
    assert all(text.startswith('before\n<!-- bundled') for text in found)
    assert all(text.endswith('<!-- end of bundled -->\nafter') for text in found)
    return found

  monkeypatch.setattr(exports, 'BUNDLED', tmp_path / 'none')
  tries, *others = texts()
  assert '\n| noise25 | 2' in tries and '| - | median |' in tries and '\n- PSNR RGB (dB), alpha 0.5, above' in tries
  assert not any('noise25' in text for text in others)
  monkeypatch.setattr(exports, 'BUNDLED', weights)
  with pytest.raises(ValueError, match='no try of the bundled weights'):
    bundled.pages({**report, 'tries': [{**report['tries'][0], 'sha256': 'of another'}]})
  tries, readme, card = texts()
  assert '\n| noise25 | 2' in readme and '\n- ' not in readme
  assert all(f'| {title} | input |' in card for title in ('PSNR Y (dB)', 'SSIM Y', 'PSNR RGB (dB)', 'SSIM RGB'))


def test_the_bundled_weights_have_a_hash_once_there_are_some(folder, tmp_path, monkeypatch):
  monkeypatch.setattr(exports, 'BUNDLED', tmp_path)
  with pytest.raises(FileNotFoundError, match='holds no export'):
    bundled.weights_hash(None)
  monkeypatch.setattr(exports, 'BUNDLED', folder / 'run' / 'export')
  assert bundled.weights_hash(None) == bundled.weights_hash(folder / 'run')


def test_the_readmes_hold_what_was_measured():
  report = json.loads((ROOT / 'experiments' / 'results' / 'bundled.json').read_text(encoding='utf-8'))
  pages = bundled.pages(report)
  assert len(pages) == 3
  for file, page in pages.items():
    before, _, rest = file.read_text(encoding='utf-8').partition(bundled.MARKS[0])
    assert before and rest.partition(bundled.MARKS[1])[0].strip() == page.strip(), file
