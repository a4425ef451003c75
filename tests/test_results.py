"""lh_jax.results: which mean is taken, and files that stay readable whatever is in them."""

import csv
import json
import math

import numpy as np
import pytest

from lh_jax import results

SCORES = [
  {'set': 's', 'task': 'haze', 'name': 'a', 'height': 9, 'psnr_y': 20.0},
  {'set': 's', 'task': 'noise', 'name': 'a', 'height': 9, 'psnr_y': 30.0},
  {'set': 's', 'task': 'haze', 'name': 'b', 'height': 9, 'psnr_y': 22.0},
]


def test_images_count_the_same_within_a_row_and_rows_within_the_average():
  rows = results.by_task(SCORES)
  assert rows == [
    {'set': 's', 'task': 'haze', 'images': 2, 'psnr_y': 21.0},
    {'set': 's', 'task': 'noise', 'images': 1, 'psnr_y': 30.0},
  ]
  assert results.average(rows) == {'over': ['haze', 'noise'], 'psnr_y': 25.5}


def test_the_papers_average_is_over_six_columns():
  """Main paper, Table 1: three of the columns are noise, whose mean is 34.24."""
  rows = [{'set': 's', 'task': str(i), 'psnr_y': v} for i, v in enumerate((27.32, 26.98, 21.21, 34.24, 34.24, 34.24))]
  assert results.average(rows)['psnr_y'] == pytest.approx(29.70, abs=0.006)


def test_several_sets_are_told_apart():
  rows = results.by_task([*SCORES, SCORES[0] | {'set': 't'}])
  assert [results.label(row, rows) for row in rows] == ['s: haze', 's: noise', 't: haze']


def test_a_value_that_one_image_lacks_has_no_mean():
  assert results.mean([{'a': 1.0, 'b': 2.0}, {'a': 3.0}]) == {'a': 2.0}


def test_infinite_values_are_the_word_inf_everywhere(tmp_path):
  mean = results.mean([{'psnr_y': math.inf}, {'psnr_y': 20.0}])
  assert mean == {'psnr_y': math.inf}
  assert results.shown('psnr_y', math.inf) == 'inf' and results.shown('ssim_y', 0.12345) == '0.123'
  results.write_json(tmp_path / 'new' / 'r.json', {'mean': mean, 'rows': [(-math.inf, math.nan, 1.5)]})
  text = (tmp_path / 'new' / 'r.json').read_text()
  assert json.loads(text, parse_constant=pytest.fail) == {'mean': {'psnr_y': 'inf'}, 'rows': [['-inf', 'nan', 1.5]]}
  results.write_csv(tmp_path / 'r.csv', [{'name': 'a,"b', **mean}, {'name': '\udcff'}], ['name', 'psnr_y'])
  with open(tmp_path / 'r.csv', newline='') as stream:
    assert list(csv.reader(stream)) == [['name', 'psnr_y'], ['a,"b', 'inf'], ['\\udcff', '']]
  assert len(list(tmp_path.iterdir())) == 2, 'an unfinished file is left'


def test_strict_takes_numpys_numbers():
  found = results.strict({'a': [np.float32(0.5), np.float64(-np.inf)], 'b': (np.int64(3), np.bool_(True)), 'c': None})
  assert found == {'a': [0.5, '-inf'], 'b': [3, True], 'c': None}
  assert [type(number) for number in (*found['a'], *found['b'])] == [float, str, int, bool]


def test_markdown():
  text = results.markdown(['task', 'PSNR'], [['a|b', '1.00']])
  assert text.splitlines() == ['| task | PSNR |', '| --- | --- |', '| a&#124;b | 1.00 |']


def test_caveats():
  report = {
    'protocol': {'name': 'rgb', 'version': 3},
    'models': {},
    'not_computed': {'lpips_vgg': 'not computed: run this'},
  }
  assert results.caveats(report) == 'Protocol rgb, version 3. LPIPS VGG is not computed: run this.'


def test_hashes(tmp_path):
  one = results.list_hash([('a.png', 4, 5, 100), ('b.png', 4, 5, 100)])
  assert one == results.list_hash([('b.png', 4, 5, 100), ('a.png', 4, 5, 100)])
  assert one != results.list_hash([('a.png', 4, 5, 101), ('b.png', 4, 5, 100)])
  (tmp_path / 'x').write_bytes(b'abc')
  assert results.file_hash(tmp_path / 'x').startswith('ba7816bf8f01cfea')  # FIPS 180-2, appendix B.1
