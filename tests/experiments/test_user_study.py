"""`experiments/user_study.py`: anonymous exports, named errors on bad scores, and intervals known by hand."""

import json
import sys

import numpy as np
import pytest

from lh_jax.data import image_files
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import user_study  # noqa: E402

METHODS = ('LH', 'peer', 'input')
KEY = {
  '001': {'image': 'cat_haze', 'letters': {'A': 'peer', 'B': 'LH'}},
  '002': {'image': 'cat_blur', 'letters': {'A': 'LH', 'B': 'peer'}},
}


def entries(count: int = 12) -> list[user_study.Entry]:
  """Questions in which the level of grey tells image and method."""

  def grey(level: int) -> np.ndarray:
    return np.full((8, 8, 3), level, np.uint8)

  return [
    user_study.Entry(f'image{i}', grey(200 + i), {name: grey(10 * i + j) for j, name in enumerate(METHODS)})
    for i in range(count)
  ]


def write_csv(path, *rows, header='rater,set,letter,score'):
  path.write_text('\n'.join([header, *rows]) + '\n')
  return path


def test_export_hides_who_is_who_and_the_key_finds_it(tmp_path):
  key = user_study.export(entries(), tmp_path / 'study', tmp_path / 'key.json', seed=3)
  assert key == json.loads((tmp_path / 'key.json').read_text())
  by_name = {entry.name: entry for entry in entries()}
  for name, question in key.items():
    folder, entry = tmp_path / 'study' / name, by_name.pop(question['image'])
    np.testing.assert_array_equal(image_files.read_rgb(folder / 'input.png'), entry.degraded)
    assert sorted(question['letters'].values()) == sorted(METHODS)
    for letter, method in question['letters'].items():
      np.testing.assert_array_equal(image_files.read_rgb(folder / f'{letter}.png'), entry.results[method])
  assert not by_name
  seen = [path.relative_to(tmp_path / 'study').as_posix() for path in (tmp_path / 'study').rglob('*')]
  page = (tmp_path / 'study' / 'study.html').read_text()
  for secret in (*METHODS, 'image0'):
    assert not any(secret in name for name in seen if 'input.png' not in name)
    assert secret == 'input' or secret not in page


def test_export_shuffles_questions_and_letters_by_seed(tmp_path):
  keys = [
    user_study.export(entries(), tmp_path / str(i), tmp_path / f'{i}.json', seed=s) for i, s in enumerate((3, 3, 4))
  ]
  assert keys[0] == keys[1] != keys[2]
  assert len({tuple(question['letters'].values()) for question in keys[0].values()}) > 2
  assert [question['image'] for question in keys[0].values()] != [entry.name for entry in entries()]


def test_page_asks_for_every_result_once():
  page = user_study.study_page.page(KEY)
  for name, question in KEY.items():
    for letter in question['letters']:
      assert page.count(f'data-set="{name}" data-letter="{letter}"') == 1
      assert f'src="{name}/{letter}.png"' in page
  assert 'min="1" max="10"' in page and "'rater,set,letter,score'" in page
  assert '{{' not in page


def test_export_refuses(tmp_path):
  with pytest.raises(ValueError, match='2 to 26 methods'):
    user_study.export([], tmp_path / 'a', tmp_path / 'key.json')
  uneven = [*entries(1), user_study.Entry('other', entries(1)[0].degraded, {'LH': entries(1)[0].degraded})]
  with pytest.raises(ValueError, match='needs a result of every method'):
    user_study.export(uneven, tmp_path / 'a', tmp_path / 'key.json')
  with pytest.raises(ValueError, match='in the folder that the raters see'):
    user_study.export(entries(1), tmp_path / 'a', tmp_path / 'a' / 'key.json')


def test_export_repeats_itself_but_replaces_no_other_study(tmp_path):
  key = user_study.export(entries(), tmp_path / 'study', tmp_path / 'key.json')
  assert user_study.export(entries(), tmp_path / 'study', tmp_path / 'key.json') == key
  for file, seed in (('key2.json', 0), ('key.json', 1)):
    with pytest.raises(FileExistsError, match='holds another study'):
      user_study.export(entries(), tmp_path / 'study', tmp_path / file, seed=seed)
  assert json.loads((tmp_path / 'key.json').read_text()) == key


def test_scores_find_their_methods(tmp_path):
  files = [
    write_csv(tmp_path / 'ann.csv', 'ann,001,A,4', 'ann,002,A,9.5'),
    write_csv(tmp_path / 'bob.csv', 'bob,001,B,10'),
  ]
  assert user_study.read_scores(files, KEY) == [
    ('ann', '001', 'peer', 4.0),
    ('ann', '002', 'LH', 9.5),
    ('bob', '001', 'LH', 10.0),
  ]


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    ('ann,003,A,5', "no set '003'"),
    ('ann,001,C,5', "with a letter 'C'"),
    ('ann,001,A,11', "'11' is no number from 1 to 10"),
    ('ann,001,A,0.5', 'is no number'),
    ('ann,001,A,good', "'good' is no number"),
    ('ann,001,A,nan', "'nan' is no number"),
    ('ann,001,A', 'None is no number'),
    (' ,001,A,5', 'no rater'),
  ],
)
def test_bad_scores_are_named_with_their_line(tmp_path, row, message):
  file = write_csv(tmp_path / 'scores.csv', 'ann,001,B,5', row)
  with pytest.raises(ValueError, match='cannot be used') as error:
    user_study.read_scores([file], KEY)
  assert message in str(error.value) and 'scores.csv, line 3' in str(error.value)


def test_a_score_given_twice_an_empty_file_and_other_columns(tmp_path):
  file = write_csv(tmp_path / 'scores.csv', 'ann,001,B,5')
  with pytest.raises(ValueError, match='ann has scored set 001, B before'):
    user_study.read_scores([file, file], KEY)
  with pytest.raises(ValueError, match='there is none'):
    user_study.read_scores([write_csv(tmp_path / 'empty.csv')], KEY)
  with pytest.raises(ValueError, match='must have the columns rater,set,letter,score'):
    user_study.read_scores([write_csv(tmp_path / 'other.csv', header='who,what')], KEY)


def test_summary_of_known_scores():
  scores = [(f'r{i}', f's{j}', 'LH', 8.0) for i in range(4) for j in range(3)]
  scores += [(f'r{i}', f's{j}', 'peer', 2.0 + i) for i in range(4) for j in range(3) if (i, j) != (0, 0)]
  first, second = user_study.summarise(scores, draws=2000)
  assert first == {'method': 'LH', 'mean': 8.0, 'low': 8.0, 'high': 8.0, 'scores': 12, 'raters': 4, 'sets': 3}
  assert second['method'] == 'peer' and second['scores'] == 11
  assert second['mean'] == pytest.approx((2 * 2 + 3 * (3 + 4 + 5)) / 11)
  assert second['low'] < second['mean'] < second['high']


def test_interval_covers_raters_and_images():
  """Scores that vary by rater only, or by image only, have the spread of that few raters or images."""
  rng = np.random.default_rng(0)
  levels = rng.normal(5.0, 1.0, 20)
  half_width = 1.96 * levels.std() / np.sqrt(20)
  for by_rater in (True, False):
    scores = [(f'r{i}', f's{j}', 'LH', levels[i if by_rater else j]) for i in range(20) for j in range(20)]
    (row,) = user_study.summarise(scores)
    assert row['high'] - row['mean'] == pytest.approx(half_width, rel=0.15)
    assert row['mean'] - row['low'] == pytest.approx(half_width, rel=0.15)


def test_aggregates_from_the_command_line(tmp_path):
  (tmp_path / 'key.json').write_text(json.dumps(KEY))
  scores = write_csv(tmp_path / 'scores.csv', 'ann,001,A,4', 'ann,001,B,7', 'bob,002,A,8', 'bob,002,B,3')
  common = ['--scale=dry', '-o', str(tmp_path), '--scores', str(scores)]
  user_study.main([*common, '--key', str(tmp_path / 'key.json')])
  result = json.loads((tmp_path / 'user_study_scores.json').read_text())
  assert [(row['method'], row['mean']) for row in result['rows']] == [('LH', 7.5), ('peer', 3.5)]
  assert result['trends'][0]['holds'] is True
  assert (tmp_path / 'user_study_scores.png').stat().st_size < 200_000
  with pytest.raises(SystemExit):
    user_study.main(common)
  with pytest.raises(SystemExit):
    user_study.main(['--method', 'no folder'])


def test_other_methods_bring_their_results(tmp_path, monkeypatch):
  """Another method is found by the names of the inputs, and everything that it lacks is named."""

  class Model:
    def restore(self, images, *, alpha):
      return images // 2 + np.uint8(10 * alpha)

  clean = np.zeros((2, 64, 64, 3), np.uint8)
  monkeypatch.setattr(user_study.trained, 'load', lambda *_: Model())
  monkeypatch.setattr(user_study.trained, 'crops', lambda _: clean)
  degraded = {'haze': clean + np.uint8(100), 'blur': clean + np.uint8(50)}
  monkeypatch.setattr(user_study.trained, 'degraded', lambda *_: degraded)
  options = user_study.argparse.Namespace(method=[('peer', tmp_path / 'peer')])
  with pytest.raises(FileNotFoundError, match='Results are missing') as error:
    user_study.collect(options, tmp_path / 'inputs')
  assert 'crop0_haze.png' in str(error.value) and 'crop1_blur.png' in str(error.value)
  (tmp_path / 'peer').mkdir()
  for file in (tmp_path / 'inputs').iterdir():
    image_files.write_image(tmp_path / 'peer' / file.name, image_files.read_rgb(file))
  first, second = user_study.collect(options, tmp_path / 'inputs')
  assert (first.name, second.name) == ('crop0_haze', 'crop1_blur')
  assert set(first.results) == {*user_study.ALPHAS, 'peer'}
  np.testing.assert_array_equal(second.results['peer'], second.degraded)
  np.testing.assert_array_equal(second.results['LH'], clean[1] + np.uint8(30))
