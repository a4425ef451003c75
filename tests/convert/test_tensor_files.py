"""One reader for every format: content decides, training checkpoints are unwrapped, pickles are refused."""

from __future__ import annotations

import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import weight_files
from lh_jax.convert import layouts
from lh_jax.convert import tensor_files
from tests.convert import test_pth_reader as pth

NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)


def nested(key, inner, more=''):
  return '}' + f'V{key}\n' + inner.removesuffix('.') + 's' + more + '.'


@pytest.mark.parametrize('key', ['model', 'state_dict', 'params', 'params_ema'])
@pytest.mark.parametrize('write', [pth.write, pth.legacy])
def test_training_checkpoints_are_unwrapped(key, write, tmp_path):
  tensor = pth.tensor() if write is pth.write else pth.legacy_tensor()
  program = nested(key, '}' + f'Vmodule.a\n{tensor}s.', more='Vepoch\nI300\ns')
  tensors = tensor_files.read(write(tmp_path / 'x', program))
  assert list(tensors) == ['a']
  np.testing.assert_array_equal(tensors['a'], NUMBERS)


def test_averages_are_taken_before_the_weights(tmp_path):
  inner = lambda offset: '}Va\n' + pth.tensor(offset=offset, shape=(), strides=()) + 's'
  program = f'}}Vparams\n{inner(1)}sVparams_ema\n{inner(2)}s.'
  assert tensor_files.read(pth.write(tmp_path / 'x', program))['a'] == 2


def test_module_is_stripped_only_where_all_have_it(tmp_path):
  weight_files.save(tmp_path / 'x', {'module.a': NUMBERS, 'module.b': NUMBERS})
  assert set(tensor_files.read(tmp_path / 'x')) == {'a', 'b'}
  weight_files.save(tmp_path / 'x', {'module.a': NUMBERS, 'b': NUMBERS})
  assert set(tensor_files.read(tmp_path / 'x')) == {'module.a', 'b'}


@pytest.mark.parametrize('write', [pth.write, pth.legacy])
def test_other_contents(write, tmp_path):
  tensor = pth.tensor() if write is pth.write else pth.legacy_tensor()
  with pytest.raises(ValueError, match='expected a flat state dict, but these entries are no tensors: inner, b'):
    tensor_files.read(write(tmp_path / 'x', '}Vinner\n}Va\n' + tensor + 'ssVb\nI1\ns.'))


@pytest.mark.parametrize('write', [pth.write, pth.legacy])
@pytest.mark.parametrize('method', ['items', 'get', 'keys'])
def test_dicts_whose_methods_the_pickle_replaces(write, method, tmp_path):
  tensor = pth.tensor() if write is pth.write else pth.legacy_tensor()
  inner = f'ccollections\nOrderedDict\n)RVa\n{tensor}s}}V{method}\nI1\nsb'
  for program in (inner, f'ccollections\nOrderedDict\n)RVparams\n{inner}s}}V{method}\nI1\nsb'):
    tensors = tensor_files.read(write(tmp_path / 'x', program + '.'))
    assert list(tensors) == ['a']
    np.testing.assert_array_equal(tensors['a'], NUMBERS)


@pytest.mark.parametrize('write', [pth.write, pth.legacy])
def test_a_dict_that_holds_itself(write, tmp_path):
  tensor = pth.tensor() if write is pth.write else pth.legacy_tensor()
  with pytest.raises(ValueError, match='these entries are no tensors: params'):
    tensor_files.read(write(tmp_path / 'x', '}p7\nVa\n' + tensor + 'sVparams\ng7\ns.'))


def test_names_that_are_none(tmp_path):
  with pytest.raises(ValueError, match='these entries are no tensors: one whose name is of type int'):
    tensor_files.read(pth.write(tmp_path / 'x', '}I5\n' + pth.tensor() + 's.'))


def test_npz(tmp_path):
  np.savez(tmp_path / 'x.npz', **{'params/img/a': NUMBERS})
  np.testing.assert_array_equal(tensor_files.read(tmp_path / 'x.npz')['params/img/a'], NUMBERS)


def test_damaged_npz(tmp_path):
  np.savez(tmp_path / 'x.npz', a=NUMBERS)
  whole = (tmp_path / 'x.npz').read_bytes()
  for content in (b'', b'neither', whole[:-30]):
    (tmp_path / 'x.npz').write_bytes(content)
    with pytest.raises(ValueError, match=r'not a whole \.npz file of plain arrays'):
      tensor_files.read(tmp_path / 'x.npz')
  np.savez(tmp_path / 'x.npz', a=np.array([{'code': 1}]))
  with pytest.raises(ValueError, match='allow_pickle=False'):
    tensor_files.read(tmp_path / 'x.npz')
  with pytest.raises(FileNotFoundError, match='absent.npz: no such file'):
    tensor_files.read(tmp_path / 'absent.npz')


def member(header):
  """An array in numpy's format, version 1.0, with this header and no numbers."""
  return b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header


@pytest.mark.parametrize(
  'content',
  [
    member(b'{"descr": (((\n'),  # no Python
    member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }\n"),  # no memory
  ],
)
def test_damaged_arrays_in_an_npz(content, tmp_path):
  with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
    archive.writestr('a.npy', content)
  with pytest.raises(ValueError, match=r'x\.npz: not a whole \.npz file of plain arrays'):
    tensor_files.read(tmp_path / 'x.npz')


@pytest.mark.parametrize('place, byte', [('numbers', 0xFF), ('method', 99)])
def test_damaged_bytes_in_an_npz(place, byte, tmp_path):
  np.savez_compressed(tmp_path / 'x.npz', a=np.random.default_rng(0).random(1000))
  content = bytearray((tmp_path / 'x.npz').read_bytes())
  with zipfile.ZipFile(tmp_path / 'x.npz') as archive:
    start = archive.start_dir
  if place == 'numbers':
    content[60:400] = bytes([byte]) * 340
  else:
    content[8] = content[start + 10] = byte  # a compression that nobody knows
  (tmp_path / 'x.npz').write_bytes(content)
  with pytest.raises(ValueError, match=r'x\.npz: not a whole \.npz file of plain arrays'):
    tensor_files.read(tmp_path / 'x.npz')


def test_structures_in_an_npz_are_no_numbers(tmp_path):
  np.savez(tmp_path / 'x.npz', a=np.zeros(2, [('x', 'f4')]), b=np.zeros(2, 'f4'))
  like = {name: np.zeros(2, np.float32) for name in 'ab'}
  with pytest.raises(ValueError) as error:
    layouts.convert(tensor_files.read(tmp_path / 'x.npz'), like, (layouts.Layout('own', {'a': 'a', 'b': 'b'}),))
  assert str(error.value).splitlines()[1:] == [
    "  dtype: a is [('x', '<f4')], expected floating-point numbers",
  ]


def test_bfloat16_in_an_npz(tmp_path):
  numbers = NUMBERS.astype(jnp.bfloat16)
  np.savez(tmp_path / 'x.npz', a=numbers, b=numbers[1, 2], c=np.zeros(2, 'V3'))
  tensors = tensor_files.read(tmp_path / 'x.npz')
  assert tensors['a'].dtype == tensors['b'].dtype == jnp.bfloat16
  like = {'a': NUMBERS, 'b': NUMBERS[0, 0]}
  layout = layouts.Layout('own', {name: name for name in 'abc'}, unused=('c',))
  params = layouts.convert(tensors, like, (layout,))
  np.testing.assert_array_equal(params['a'], NUMBERS)
  assert params['b'] == 5
  # Of other bytes nobody knows what they are.
  with pytest.raises(ValueError, match=r'dtype: c is \|V3, expected floating-point numbers'):
    layouts.convert(tensors, like | {'c': np.zeros(2)}, (layout,))
