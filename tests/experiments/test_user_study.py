"""`experiments/user_study.py`: anonymous exports, named errors on bad scores, and intervals known by hand."""

import dataclasses
import json
import sys

import numpy as np
from PIL import Image
import pytest

from lh_jax.data import image_files
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import study_scores  # noqa: E402
import user_study  # noqa: E402

METHODS = ('LH', 'peer', 'input')
SETS = {
  '001': {'image': 'cat_haze', 'letters': {'A': 'peer', 'B': 'LH'}},
  '002': {'image': 'cat_blur', 'letters': {'A': 'LH', 'B': 'peer'}},
}
KEY = {'study': 'seed0_cafe', 'sets': SETS}


def entries(count: int = 12) -> list[user_study.Entry]:
  """Questions in which the level of grey tells image and method."""

  def grey(level: int) -> np.ndarray:
    return np.full((8, 8, 3), level, np.uint8)

  return [
    user_study.Entry(f'image{i}', grey(200 + i), {name: grey(10 * i + j) for j, name in enumerate(METHODS)})
    for i in range(count)
  ]


def write_csv(path, *rows, header='study,rater,set,letter,score', study=KEY['study']):
  path.write_text('\n'.join([header, *(f'{study},{row}' for row in rows)]) + '\n')
  return path


def test_export_hides_who_is_who_and_the_key_finds_it(tmp_path):
  key = user_study.export(entries(), tmp_path, seed=3)
  study = tmp_path / f'study_{key["study"]}'
  assert key == study_scores.read_key(tmp_path / f'key_{key["study"]}.json')
  by_name = {entry.name: entry for entry in entries()}
  for name, question in key['sets'].items():
    folder, entry = study / name, by_name.pop(question['image'])
    np.testing.assert_array_equal(image_files.read_rgb(folder / 'input.png'), entry.degraded)
    assert sorted(question['letters'].values()) == sorted(METHODS)
    for letter, method in question['letters'].items():
      np.testing.assert_array_equal(image_files.read_rgb(folder / f'{letter}.png'), entry.results[method])
  assert not by_name
  seen = [path.relative_to(study).as_posix() for path in study.rglob('*')]
  page = (study / 'study.html').read_text()
  for secret in (*METHODS, 'image0'):
    assert not any(secret in name for name in seen if 'input.png' not in name)
    assert secret == 'input' or secret not in page


def test_export_shuffles_questions_and_letters_by_seed(tmp_path):
  keys = [user_study.export(entries(), tmp_path / str(i), seed=s)['sets'] for i, s in enumerate((3, 3, 4))]
  assert keys[0] == keys[1] != keys[2]
  assert len({tuple(question['letters'].values()) for question in keys[0].values()}) > 2
  assert [question['image'] for question in keys[0].values()] != [entry.name for entry in entries()]


def test_a_study_is_its_seed_methods_and_images(tmp_path):
  """Whatever raters would see otherwise has a name, a folder and a key of its own; order is nothing to see."""
  grey = entries()[0].degraded
  first, *others = entries()
  changed = dataclasses.replace(first, results={**first.results, 'peer': grey})
  added = [dataclasses.replace(entry, results={**entry.results, 'new': grey}) for entry in entries()]
  fewer = [dataclasses.replace(entry, results={m: entry.results[m] for m in METHODS[:2]}) for entry in entries()]
  studies = [entries(), added, fewer, [changed, *others], others]
  names = [user_study.export(study, tmp_path)['study'] for study in studies]
  names.append(user_study.export(entries(), tmp_path, seed=1)['study'])
  assert len(set(names)) == 6
  assert {path.name for path in tmp_path.iterdir()} == {f'study_{n}' for n in names} | {f'key_{n}.json' for n in names}
  turned = [dataclasses.replace(entry, results=dict(reversed(entry.results.items()))) for entry in reversed(entries())]
  key = study_scores.read_key(tmp_path / f'key_{names[0]}.json')
  assert user_study.export(turned, tmp_path) == key


def test_page_asks_for_every_result_once():
  page = user_study.study_page.page(KEY)
  for name, question in SETS.items():
    for letter in question['letters']:
      assert page.count(f'data-set="{name}" data-letter="{letter}"') == 1
      assert f'src="{name}/{letter}.png"' in page
  assert 'min="1" max="10"' in page and "'study,rater,set,letter,score'" in page
  assert "['seed0_cafe', rater," in page
  assert '{{' not in page
  assert 'max-width' not in page and '<img src="001/A.png" alt="A">' in page  # at their own size


def test_export_refuses(tmp_path):
  with pytest.raises(ValueError, match='2 to 26 methods'):
    user_study.export([], tmp_path)
  uneven = [*entries(1), user_study.Entry('other', entries(1)[0].degraded, {'LH': entries(1)[0].degraded})]
  with pytest.raises(ValueError, match='needs a result of every method'):
    user_study.export(uneven, tmp_path)


def test_export_repeats_itself_but_never_without_its_key(tmp_path):
  key = user_study.export(entries(), tmp_path)
  assert user_study.export(entries(), tmp_path) == key
  file = tmp_path / f'key_{key["study"]}.json'
  file.write_text(file.read_text().replace('"A": "LH"', '"A": "peer"'))
  for _ in range(2):
    with pytest.raises(FileExistsError, match='is missing or another key'):
      user_study.export(entries(), tmp_path)
    file.unlink(missing_ok=True)


def test_scores_find_their_methods(tmp_path):
  files = [
    write_csv(tmp_path / 'ann.csv', 'ann,001,A,4', 'ann,002,A,9.5'),
    write_csv(tmp_path / 'bob.csv', 'bob,001,B,10'),
  ]
  assert study_scores.read_scores(files, KEY) == [
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
    study_scores.read_scores([file], KEY)
  assert message in str(error.value) and 'scores.csv, line 3' in str(error.value)


def test_answers_of_another_study_are_refused(tmp_path):
  own = write_csv(tmp_path / 'own.csv', 'ann,001,A,4')
  others = [write_csv(tmp_path / f'{s}.csv', 'bob,001,A,4', 'bob,001,B,4', study=s) for s in ('seed1_cafe', 'seed0_b')]
  with pytest.raises(study_scores.OtherStudyError, match="key is of study 'seed0_cafe'") as error:
    study_scores.read_scores([own, *others], KEY)
  _, *places = str(error.value).splitlines()
  assert [place.strip() for place in places] == [
    "seed1_cafe.csv, line 2: study 'seed1_cafe'",
    "seed0_b.csv, line 2: study 'seed0_b'",
  ]


@pytest.mark.parametrize('text', ['', '[]', '{"001": {}}'])
def test_a_file_that_is_no_key(tmp_path, text):
  (tmp_path / 'key.json').write_text(text)
  with pytest.raises(ValueError, match='key.json is no key of a study'):
    study_scores.read_key(tmp_path / 'key.json')


def test_raters_are_told_apart_by_more_than_typing(tmp_path):
  """Spaces, case and the encoding of an accent make no second rater."""
  rows = [f'{name},00{i},A,4' for i, name in ((1, 'Zo\u00eb'), (2, ' zoe\u0308 '))]
  raters = {score[0] for score in study_scores.read_scores([write_csv(tmp_path / 'scores.csv', *rows)], KEY)}
  assert raters == {'zo\u00eb'}
  twice = write_csv(tmp_path / 'twice.csv', 'Ann,001,A,4', 'Ann ,001,A,5')
  with pytest.raises(ValueError, match='line 3: ann has scored set 001, A before'):
    study_scores.read_scores([twice], KEY)


def test_scores_that_are_not_utf_8(tmp_path):
  file = write_csv(tmp_path / 'scores.csv', 'Zo\u00eb,001,A,4')
  file.write_bytes(file.read_text(encoding='utf-8').encode('cp1252'))
  with pytest.raises(ValueError, match='scores.csv is not in UTF-8, byte .*: save as UTF-8'):
    study_scores.read_scores([file], KEY)


def test_a_score_given_twice_an_empty_file_and_other_columns(tmp_path):
  file = write_csv(tmp_path / 'scores.csv', 'ann,001,B,5')
  with pytest.raises(ValueError, match='ann has scored set 001, B before'):
    study_scores.read_scores([file, file], KEY)
  with pytest.raises(ValueError, match='there is none'):
    study_scores.read_scores([write_csv(tmp_path / 'empty.csv')], KEY)
  with pytest.raises(ValueError, match='must have the columns study,rater,set,letter,score'):
    study_scores.read_scores([write_csv(tmp_path / 'other.csv', header='who,what')], KEY)


def test_summary_of_known_scores():
  scores = [(f'r{i}', f's{j}', 'LH', 8.0) for i in range(4) for j in range(3)]
  scores += [(f'r{i}', f's{j}', 'peer', 2.0 + i) for i in range(4) for j in range(3) if (i, j) != (0, 0)]
  first, second = study_scores.summarise(scores, draws=2000)
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
    (row,) = study_scores.summarise(scores)
    assert row['high'] - row['mean'] == pytest.approx(half_width, rel=0.15)
    assert row['mean'] - row['low'] == pytest.approx(half_width, rel=0.15)


def test_aggregates_from_the_command_line(tmp_path):
  (tmp_path / 'key.json').write_text(json.dumps(KEY))
  scores = write_csv(tmp_path / 'scores.csv', 'ann,001,A,4', 'ann,001,B,7', 'bob,002,A,8', 'bob,002,B,3')
  common = ['--scale=dry', '-o', str(tmp_path), '--scores', str(scores)]
  user_study.main([*common, '--key', str(tmp_path / 'key.json')])
  result = json.loads((tmp_path / 'user_study_scores.json').read_text())
  assert [(row['method'], row['mean']) for row in result['rows']] == [('LH', 7.5), ('peer', 3.5)]
  assert result['study'] == KEY['study']
  assert result['trends'][0]['holds'] is True
  assert (tmp_path / 'user_study_scores.png').stat().st_size < 200_000
  with pytest.raises(SystemExit):
    user_study.main(common)
  with pytest.raises(SystemExit):
    user_study.main(['--method', 'no folder'])


@pytest.fixture(name='stand_in')
def _stand_in(monkeypatch):
  """A model and two test images, instead of trained ones."""

  class Model:
    def restore(self, images, *, alpha):
      return images // 2 + np.uint8(10 * alpha)

  clean = np.zeros((2, 64, 48, 3), np.uint8)
  monkeypatch.setattr(user_study.trained, 'load', lambda *_: Model())
  monkeypatch.setattr(user_study.trained, 'crops', lambda _, count: clean[:count])
  degraded = {'haze': clean + np.uint8(100), 'blur': clean + np.uint8(50)}
  monkeypatch.setattr(user_study.trained, 'degraded', lambda *_: degraded)


def test_other_methods_bring_their_results(tmp_path, stand_in):
  """Another method is found by the names of the inputs; 16 bits and a turned camera change nothing in what is shown."""
  user_study.collect(user_study.argparse.Namespace(method=[], sets=None), tmp_path / 'inputs')
  assert len(user_study.collect(user_study.argparse.Namespace(method=[], sets=1), tmp_path / 'one')) == 1
  (tmp_path / 'peer').mkdir()
  haze, blur = (image_files.read_rgb(tmp_path / 'inputs' / f'{n}.png') for n in ('crop0_haze', 'crop1_blur'))
  image_files.write_image(tmp_path / 'peer' / 'crop0_haze.png', haze.astype(np.uint16) * 257)
  exif = Image.Exif()
  exif[0x0112] = 6
  Image.fromarray(np.ascontiguousarray(np.rot90(blur))).save(tmp_path / 'peer' / 'crop1_blur.png', exif=exif)
  options = user_study.argparse.Namespace(method=[('peer', tmp_path / 'peer')], sets=None)
  first, second = user_study.collect(options, tmp_path / 'inputs')
  assert (first.name, second.name) == ('crop0_haze', 'crop1_blur')
  assert set(first.results) == {*user_study.ALPHAS, 'peer'}
  assert all(pixels.dtype == np.uint8 for pixels in first.results.values())
  np.testing.assert_array_equal(first.results['peer'], first.degraded)
  np.testing.assert_array_equal(second.results['peer'], second.degraded)
  np.testing.assert_array_equal(second.results['LH'], np.full((64, 48, 3), 30))


def test_every_problem_of_other_methods_is_named_before_anything_is_trained(tmp_path, stand_in, monkeypatch):
  monkeypatch.setattr(user_study.trained, 'load', lambda *_: pytest.fail('trained'))
  for method in 'ab':
    (tmp_path / method).mkdir()
  Image.new('RGB', (64, 48)).save(tmp_path / 'a' / 'crop0_haze.png')
  Image.new('RGB', (48, 64)).save(tmp_path / 'b' / 'crop0_haze.png')
  whole = (tmp_path / 'b' / 'crop0_haze.png').read_bytes()
  (tmp_path / 'b' / 'crop1_blur.png').write_bytes(whole[: len(whole) // 2])
  methods = [('a', tmp_path / 'a'), ('b', tmp_path / 'b'), ('LH', tmp_path / 'b')]
  with pytest.raises(ValueError, match='Results of other methods cannot be used') as error:
    user_study.collect(user_study.argparse.Namespace(method=methods, sets=2), tmp_path / 'inputs')
  _, *problems = str(error.value).splitlines()
  expected = [
    "the name 'LH' stands for 2 methods",
    f'a: {tmp_path / "a" / "crop0_haze.png"} has 64x48 pixels, its input 48x64',
    "crop1_blur.png' does not exist",
    'b: cannot read image file',
    'LH: cannot read image file',
  ]
  for problem, words in zip(problems, expected, strict=True):
    assert words in problem
