"""`experiments/runs.py`: variants share what they can and know when they are finished; results tell their origin."""

import json
import subprocess
import sys

import jax
import numpy as np
from PIL import Image
import pytest

import lh_jax
from lh_jax import exports
from lh_jax import networks
from lh_jax import synthesis
from lh_jax.models import restorers
from lh_jax.models import summary
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import records  # noqa: E402
import run_all  # noqa: E402
import runs  # noqa: E402
import scales  # noqa: E402
import supp_table1  # noqa: E402
import supp_table5  # noqa: E402
import table1  # noqa: E402
import table5b  # noqa: E402
import tables  # noqa: E402


def parse(folder, *arguments):
  return runs.parser('An experiment.').parse_args(given(folder, *arguments))


def given(folder, *arguments):
  return ['--scale=dry', f'--runs={folder / "runs"}', f'--output={folder / "results"}', *arguments]


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  """Where the model of Table 1 has been trained."""
  folder = tmp_path_factory.mktemp('experiments')
  runs.train('full', parse(folder))
  return folder


def test_variants_with_one_stage_1_share_it(folder):
  workdir = runs.train('no_lora', parse(folder))
  names = {path.name.split('-')[0] for path in (folder / 'runs' / 'dry').iterdir()}
  assert names == {'stage1', 'full', 'no_lora'} and len(list((folder / 'runs' / 'dry').glob('stage1-*'))) == 1
  assert runs.stage1('rank_2', parse(folder)) == next((folder / 'runs' / 'dry').glob('stage1-*'))
  full, without = (exports.load(path).params for path in (folder / 'runs' / 'dry' / 'full', workdir))
  jax.tree.map(np.testing.assert_array_equal, full['vae'], without['vae'])


def test_what_changes_stage_1_gets_its_own(folder):
  digests = {
    variant: runs._digest(runs._stage1(runs.config(variant, parse(folder))))
    for variant in ('full', 'no_fhf', 'rank_4', 'no_pdps', 'no_invariance', 'inv_0.4', 'vae2', 'single:haze')
  }
  assert digests['full'] == digests['no_fhf'] == digests['rank_4']
  assert len(set(digests.values())) == len(digests) - 2


def test_a_finished_run_is_found_and_another_configuration_refused(folder, monkeypatch):
  options = parse(folder)
  before = (folder / 'runs' / 'dry' / 'full' / 'metrics.jsonl').read_text()
  workdir = runs.train('full', options)
  assert (workdir / 'metrics.jsonl').read_text() == before and list(options.variants) == ['full']
  monkeypatch.setitem(scales.SCALES, 'dry', scales.SCALES['dry'] | {'optim.restorer.learning_rate': 0.5})
  with pytest.raises(ValueError, match=r'another configuration \(optim.restorer.learning_rate differ\): remove it'):
    runs.train('full', parse(folder))


def test_a_variant_keeps_its_share_of_the_steps(folder):
  lengths = {v: runs.config(v, parse(folder)).stage2.lora_steps for v in ('full', 'no_fhf', 'no_lora')}
  assert lengths == {'full': 4, 'no_fhf': 2, 'no_lora': 0}
  assert runs.config('foundation_tiny_vit', parse(folder)).foundation.name == 'tiny_vit'
  assert runs.config('single:haze', parse(folder)).data.tasks == ('haze',)
  assert runs.config('uhd6', parse(folder, '--scale=smoke')).foundation.name == 'vgg16'
  with pytest.raises(ValueError, match="Unknown argument 'best' of configs/ablations.py"):
    runs.config('best', parse(folder))


def test_test_images_and_their_degradations(folder):
  options = parse(folder)
  images = runs.test_images(options)
  assert [image.shape for _, image in images] == [(64, 64, 3)] * 2 and images[0][0] != images[1][0]
  found = list(runs.degraded(options, ('noise50', 'haze+low_light')))
  assert [(name, task) for name, task, _, _ in found] == [
    (n, t) for t in ('noise50', 'haze+low_light') for n, _ in images
  ]
  for (_, _, degraded, clean), (_, again) in zip(found, images * 2):
    np.testing.assert_array_equal(clean, again)
    assert degraded.dtype == np.uint8 and (degraded != clean).any()
  # Another task beside it changes nothing.
  (_, _, alone, _), *_ = runs.degraded(options, ('noise50',))
  np.testing.assert_array_equal(alone, found[0][2])


def test_evaluate(folder):
  rows = runs.evaluate(runs.restorer(folder / 'runs' / 'dry' / 'full'), ('haze', 'noise50'), parse(folder))
  assert [(row['task'], row['images']) for row in rows] == [('haze', 2), ('noise50', 2), ('average', 4)]
  for column in runs.COLUMNS:
    values = [row[f'psnr_y_{column}'] for row in rows]
    assert values[2] == pytest.approx((values[0] + values[1]) / 2)
  assert rows[0]['psnr_rgb_ceiling'] == rows[1]['psnr_rgb_ceiling'] and 13 < rows[1]['psnr_rgb_input'] < 16


def test_photographs_are_held_out_by_name(tmp_path):
  rng = np.random.default_rng(0)
  (tmp_path / 'photos' / 'deep').mkdir(parents=True)
  for index in range(24):
    name = f'deep/{index}.png' if index % 2 else f'{index}.png'
    Image.fromarray(rng.integers(0, 256, (80, 72, 3), dtype=np.uint8)).save(tmp_path / 'photos' / name)
  options = parse(tmp_path, f'--photos={tmp_path / "photos"}')
  train, test = (
    {path.relative_to(folder).as_posix() for path in folder.rglob('*.png')} for folder in runs.photographs(options)
  )
  assert len(train | test) == 24 and not train & test and 1 <= len(test) <= 8
  assert [image.shape for _, image in runs.test_images(options)] == [(64, 64, 3)] * min(len(test), 2)
  assert runs.config('full', options).data.path == str(runs.photographs(options)[0])
  # A photograph that is added moves no other one.
  Image.new('RGB', (72, 80)).save(tmp_path / 'photos' / 'added.png')
  again = {path.name for path in runs.photographs(options)[1].rglob('*.png')}
  assert {name.split('/')[-1] for name in test} <= again
  for path in list((tmp_path / 'photos').rglob('*.png'))[1:]:
    path.unlink()
  with pytest.raises(ValueError, match='holds 1 photograph'):
    runs.photographs(options)


def test_paper_scale_names_the_missing_data(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'uhd_ll, .*uhd_noise: .*--data.*python -m lh_jax.data check'):
    runs.config('full', parse(tmp_path, '--scale=paper'))
  (tmp_path / 'UHD-Haze').mkdir()
  options = parse(tmp_path, '--scale=paper', f'--data={tmp_path}')
  config = runs.config('single:haze', options)
  assert (config.data.source, config.data.path) == ('uhd_haze', str(tmp_path / 'UHD-Haze'))
  assert config.stage1.steps == 64_000 and config.foundation.name == 'dinov2_vits14'
  with pytest.raises(FileNotFoundError) as error:
    runs.config('full', options)
  assert 'uhd_haze' not in str(error.value) and 'uhd_blur' in str(error.value)


def test_mistakes_end_with_one_line(tmp_path):
  def main():
    runs.train('full', parse(tmp_path, '--scale=paper'))

  with pytest.raises(SystemExit, match='--scale=paper needs the data sets'):
    runs.run(main)


def test_real_pairs_and_composites_on_them(tmp_path):
  """A mixture keeps the real first degradation and adds the second one; noise is drawn on clean images."""
  rng = np.random.default_rng(0)
  for half in ('UHD-Blur/test/gt', 'UHD-Blur/test/input', 'UHD-Noise/test'):
    (tmp_path / half).mkdir(parents=True)
    Image.fromarray(rng.integers(64, 192, (48, 48, 3), dtype=np.uint8)).save(tmp_path / half / 'a.png')
  options = parse(tmp_path, '--scale=paper', f'--data={tmp_path}')
  (blur,), (noise,), (both,) = (list(runs.degraded(options, (t,))) for t in ('blur', 'noise25', 'noise25+blur'))
  real = np.asarray(Image.open(tmp_path / 'UHD-Blur/test/input/a.png'))
  np.testing.assert_array_equal(blur[2], real)
  assert 20 < (noise[2].astype(float) - noise[3]).std() < 27
  assert 20 < (both[2].astype(float) - real).std() < 27
  np.testing.assert_array_equal(both[3], blur[3])


def test_a_table_end_to_end(folder, capsys):
  table1.main(given(folder))
  result = json.loads((folder / 'results' / 'table1.json').read_text())
  assert [row['task'] for row in result['rows']] == [*runs.TASKS, 'average']
  assert result['rows'][0]['psnr paper'] == 27.32 and result['rows'][-1]['psnr paper'] == 29.70
  # Every level of noise stands beside the mean that the paper tells.
  assert {row['psnr paper'] for row in result['rows'] if row['task'].startswith('noise')} == {34.24}
  assert set(result['summary']) == {'item', 'paper', 'ours', 'why'}
  assert result['size']['paper'] == {'parameters': 1.2e6, 'multiply_adds': 3.6e9, 'full_size': True}
  # The dry networks are not those that were compiled for the card.
  assert result['size']['ours']['full_size'] == {'fits': None, 'why': 'aot_gpu.json is of other networks'}
  assert result['size']['ours']['parameters'] < 1e6 and '4K on 24 GB unknown' in result['summary']['ours']
  provenance = result['provenance']
  assert (
    provenance['scale'] == 'dry' and list(provenance['variants']) == ['full'] and provenance['jax'] == jax.__version__
  )
  assert 0 < (folder / 'results' / 'table1.png').stat().st_size < 200_000
  printed = capsys.readouterr().out
  assert '| low_light | 27.32 |' in printed and 'not reproduced at this scale: ' in printed
  assert provenance['cpu'] and provenance['numpy'] == np.__version__
  failed = [trend for trend in result['trends'] if not trend['holds']]
  assert failed and all(trend['why'] and f'{trend["claim"]} ({trend["why"]})' in printed for trend in failed)


def test_runtime_table(folder):
  table5b.main(given(folder))
  result = json.loads((folder / 'results' / 'table5b.json').read_text())
  assert [row['method'] for row in result['rows']][-2:] == ['Ours', 'lh_jax'] and min(result['seconds']) > 0
  assert result['rows'][-2]['s per MP'] == pytest.approx(0.43 / 8.2944)


def test_data_set_table(tmp_path):
  for half in ('gt', 'input'):
    (tmp_path / 'uhd_ll' / 'testing_set' / half).mkdir(parents=True)
    Image.new('RGB', (16, 16)).save(tmp_path / 'uhd_ll' / 'testing_set' / half / 'a.png')
  (tmp_path / 'uhd_ll' / 'training_set' / 'gt').mkdir(parents=True)
  supp_table1.main(given(tmp_path, f'--data={tmp_path}'))
  rows = json.loads((tmp_path / 'results' / 'supp_table1.json').read_text())['rows']
  (low_light,) = [row for row in rows if row['dataset'] == 'UHD-LL']
  assert (low_light['test, paper'], low_light['test, found']) == (115, 1)
  assert 'problem' in str(low_light['train, found']) and low_light['test, elsewhere'] == '150 (its publisher)'
  assert {row['test, found'] for row in rows if row is not low_light} == {'missing'}


def test_foundation_models_that_cannot_run_say_why(tmp_path, monkeypatch):
  monkeypatch.setenv('LH_JAX_CACHE', str(tmp_path))
  assert supp_table5.status('vgg16') == 'no weights: python -m lh_jax.convert vgg16'
  (tmp_path / 'vgg16.safetensors').touch()
  assert supp_table5.status('vgg16') == supp_table5.status('tiny_vit') == 'run'


def test_reasons_count_what_was_judged_and_what_cannot_be(tmp_path):
  rows = [
    {'task': task, 'psnr_y_input': given, 'psnr_y_restored': 20.0, 'psnr_y_ceiling': 25.0}
    for task, given in (('haze', 15.0), ('noise50', 21.0), ('blur', 29.0))
  ]
  trends = tables.improvements(parse(tmp_path), rows)
  assert [trend['holds'] for trend in trends] == [True, False, False]
  assert trends[1]['why'] == '2 of 64000 stage-1 steps and 2 of 24000 restorer steps'
  assert trends[2]['why'] == 'the input is above VAE(clean), the ceiling'
  why = tables.why(parse(tmp_path), trends)
  assert 'not reproduced: blur: the restored images' in why and 'all numbers: 2 of 64000 stage-1 steps and' in why
  assert tables.why(parse(tmp_path, '--scale=paper'), trends[:1]) == ''
  assert tables.listing({'a': 1.0, 'b': None}) == 'a 1.00, b -'


def test_infinite_numbers_and_pictures(tmp_path):
  options = parse(tmp_path)
  noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
  rows = [{'a': float('inf'), 'b': np.float32(1.5)}, {'a': 12.345, 'c': 'x'}]
  runs.write(options, 'x', {'rows': rows}, noise)
  assert json.loads((tmp_path / 'results' / 'x.json').read_text())['rows'] == [{'a': 'inf', 'b': 1.5}, rows[1]]
  assert (tmp_path / 'results' / 'x.jpg').stat().st_size < 200_000


def test_published_errors():
  with pytest.raises(ValueError, match="published.json has no 'table9'; it has table1, "):
    runs.published('table9')


def test_run_all_goes_on_after_a_failure_and_skips_what_is_there(tmp_path, monkeypatch, capfd):
  monkeypatch.setattr(run_all.records, 'HERE', tmp_path)
  monkeypatch.setattr(run_all, 'README', tmp_path / 'README.md')
  monkeypatch.setattr(run_all, 'EXPERIMENTS', {'bad': 'Table 0', 'good': 'Table 1', 'idle': 'Table 2'})
  (tmp_path / 'bad.py').write_text('raise SystemExit(3)')
  good = {
    'provenance': {
      'scale': 'dry',
      'seed': 0,
      'device': '1 x cpu',
      'lh_jax': lh_jax.__version__,
      'images': 'embedded',
    },
    'summary': {'paper': 'p', 'ours': 'o|o', 'why': ''},
  }
  good['trends'] = [{'claim': 'c', 'holds': True}, {'claim': 'd', 'holds': None}]
  good['status'] = '1 of 3 restorers'
  monkeypatch.setattr(run_all.bench_tables, 'section', lambda folder: f'tables of {folder.name}')
  (tmp_path / 'good.py').write_text(
    f'import json, pathlib, sys\nout = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])\nout.mkdir(exist_ok=True)\n'
    f'(out / "good.json").write_text({json.dumps(good)!r})\nprint("ran with", *sys.argv[1:])'
  )
  marks = '\n'.join(run_all.BENCH_MARKS + run_all.MARKS)
  (tmp_path / 'README.md').write_text(f'before\n{marks}\nafter\n')
  arguments = ['--scale=dry', '-o', str(tmp_path / 'results'), '--only', 'bad', 'good']
  with pytest.raises(SystemExit):
    run_all.main([*arguments, '--photos', 'P'])
  printed = capfd.readouterr().out
  assert 'failed with exit code 3' in printed and '--scale=dry --seed=0' in printed and '--photos P' in printed
  readme = (tmp_path / 'README.md').read_text()
  assert readme.startswith('before\n') and readme.endswith('\nafter\n')
  assert '| `idle.py` | Table 2 | not run |' in readme and '| p | o/o | 1 of 1, 1 cannot be told |' in readme
  assert '| 1 of 3 restorers; scale dry, 1 x cpu |' in readme
  assert 'L_Inv by tiny_vgg.' in readme and 'L_Inv by dinov2_vits14.' in readme
  assert '\n'.join([run_all.BENCH_MARKS[0], 'tables of results', run_all.BENCH_MARKS[1]]) in readme
  with pytest.raises(SystemExit):
    run_all.main(arguments)
  told = capfd.readouterr().out
  assert 'skipped: it has a result, but the code is not that of its revision, unknown: --overwrite' in told
  with pytest.raises(SystemExit):
    run_all.main([*arguments, '--photos', 'P'])  # may give another one
  assert 'skipped' not in capfd.readouterr().out
  (tmp_path / 'README.md').write_text('no marks')
  with pytest.raises(ValueError, match='must have the lines'):
    run_all.main(['--readme', '-o', str(tmp_path / 'results')])


def test_every_experiment_is_listed_and_the_readme_has_its_marks():
  here = ROOT / 'experiments'
  assert all((here / f'{name}.py').is_file() for name in run_all.EXPERIMENTS)
  written = {path.stem for path in here.glob('*.py') if 'runs.write(' in path.read_text()} - {'runs', 'trained'}
  written |= {'table2'}  # through table1
  assert written == set(run_all.EXPERIMENTS)
  text = (here / 'README.md').read_text()
  assert all(text.count(mark) == 1 for mark in run_all.MARKS + run_all.BENCH_MARKS)


def git(folder, *arguments):
  names = ('-c', 'user.name=a', '-c', 'user.email=a@b')
  return subprocess.run(['git', '-C', folder, *names, *arguments], check=True, capture_output=True, text=True).stdout


def test_results_tell_the_revision_of_their_code(tmp_path, monkeypatch):
  monkeypatch.setattr(records, 'HERE', tmp_path / 'experiments')
  (tmp_path / 'experiments' / 'results').mkdir(parents=True)
  assert records.revision() == {} and records.code_changed_since('HEAD')
  code, other = tmp_path / 'experiments' / 'a.py', tmp_path / 'experiments' / 'results' / 'a.json'
  code.write_text('1')
  git(tmp_path, 'init', '-q')
  assert records.revision() == {}  # nothing is committed yet
  git(tmp_path, 'add', '.')
  git(tmp_path, 'commit', '-qm', 'first')
  first = git(tmp_path, 'rev-parse', 'HEAD').strip()
  assert records.revision() == {'revision': first, 'dirty': False}
  # A result is no code.
  other.write_text('{}')
  git(tmp_path, 'add', '.')
  git(tmp_path, 'commit', '-qm', 'second')
  assert not records.revision()['dirty'] and not records.code_changed_since(first)
  code.write_text('2')
  assert records.revision()['dirty'] and records.code_changed_since(first)
  # Within another project's repository.
  monkeypatch.setattr(records, 'HERE', tmp_path / 'experiments' / 'results')
  assert records.revision() == {}
  monkeypatch.setenv('PATH', '')
  assert records.revision() == {} and records.code_changed_since(first)


def test_statuses_tell_what_did_not_run(tmp_path):
  supp_table1.main(given(tmp_path))
  assert json.loads((tmp_path / 'results' / 'supp_table1.json').read_text())['status'] == 'needs --data'


def test_moire_is_as_strong_as_it_gets(tmp_path):
  clean = runs.test_images(parse(tmp_path))[0][1]
  found = [runs.synthesise(clean, name='a', task=task, options=parse(tmp_path)) for task in ('moire', 'rain')]
  expected = [
    synthesis.synthesise(clean, name='a', task=task, severity=severity)
    for task, severity in (('moire', 1), ('rain', 0.3))
  ]
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('name', restorers.RESTORERS)
def test_every_restorer_has_a_dry_scale(name, tmp_path):
  """Table 5c: the variant that trains it is small, and its restorer is the one named."""
  config = runs.config(f'restorer_{name}', parse(tmp_path))
  built = networks.build({section: config[section].to_dict() for section in networks.SECTIONS})
  assert isinstance(built.restorer, restorers.RESTORERS[name])
  shapes = jax.eval_shape(built.init_restoration, jax.random.key(0))
  assert summary.parameters(shapes['restorer']) < 30_000
