"""The restricted pickle reader: arrays come out exactly, hostile or damaged pickles are refused without effect."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from lh_jax.convert import pickle_reader


class Hostile:
  """Unpickled the ordinary way, it makes a folder."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return os.mkdir, (self.path,)


def write(path, value, protocol=3):
  path.write_bytes(pickle.dumps(value, protocol=protocol))
  return path


# Below protocol 3 pickle has no bytes and numpy's go through a codec, which is refused.
@pytest.mark.parametrize('protocol', [3, 4])
def test_arrays_come_out_exactly(tmp_path, protocol):
  tree = {
    'a': {'kernel': np.arange(6, dtype=np.float32).reshape(2, 3), 'bias': np.array([1.5, -2.0])},
    'fortran': np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    'big': np.arange(3, dtype='>f4'),
    'scalar': np.array(3, np.uint8),
    'flags': np.array([True, False]),
    'half': np.ones((0, 2), np.float16),
  }
  read = pickle_reader.read_numpy_pickle(write(tmp_path / 'x', tree, protocol))
  assert list(read) == list(tree)
  for found, expected in [
    (read['a']['kernel'], tree['a']['kernel']),
    (read['a']['bias'], tree['a']['bias']),
    *((read[name], tree[name]) for name in list(tree)[1:]),
  ]:
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_hostile_pickle_is_refused_without_executing_it(tmp_path):
  path = write(tmp_path / 'x', {'a': np.zeros(2), 'b': Hostile(tmp_path / 'made')})
  with pytest.raises(ValueError, match=r'x: .*it refers to posix\.mkdir, .* refused without executing it'):
    pickle_reader.read_numpy_pickle(path)
  assert not (tmp_path / 'made').exists()
  # The pickle is a live one: the ordinary reader obeys it.
  pickle.loads(path.read_bytes())
  assert (tmp_path / 'made').exists()


@pytest.mark.parametrize(
  'name', ['builtins\neval', 'numpy\nload', 'numpy.core.multiarray\nfrombuffer', 'numpy\nndarray.tofile']
)
def test_other_globals_are_refused(tmp_path, name):
  path = tmp_path / 'x'
  path.write_bytes(f'c{name}\n(V1+1\ntR.'.encode())
  with pytest.raises(ValueError, match=r'it refers to ' + name.replace('\n', r'\.')):
    pickle_reader.read_numpy_pickle(path)


def test_stand_ins_cannot_be_altered(tmp_path):
  # BUILD with a (state, slots) pair sets attributes on an ordinary object.
  path = tmp_path / 'x'
  path.write_bytes(b'cnumpy\ndtype\n(N}Vcode\nVf4\nstb.')
  with pytest.raises(ValueError, match='not a readable pickle of numpy arrays'):
    pickle_reader.read_numpy_pickle(path)


def test_outside_data_is_refused(tmp_path):
  (tmp_path / 'x').write_bytes(b'Vsomething\nQ.')
  with pytest.raises(ValueError, match='it refers to data outside the pickle'):
    pickle_reader.read_numpy_pickle(tmp_path / 'x')


@pytest.mark.parametrize('keep', [0, 1, 30, -1])
def test_truncated_file(tmp_path, keep):
  path = write(tmp_path / 'x', {'a': np.zeros(4)})
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(ValueError, match='x: not a readable pickle of numpy arrays'):
    pickle_reader.read_numpy_pickle(path)


def test_a_dict_that_holds_itself(tmp_path):
  endless = {}
  endless['a'] = endless
  with pytest.raises(ValueError, match='x: its dicts are nested without end'):
    pickle_reader.read_numpy_pickle(write(tmp_path / 'x', endless))


@pytest.mark.parametrize('value', [[np.zeros(2)], np.zeros(2), 'text', {'a': {'b': None}}])
def test_other_contents(tmp_path, value):
  with pytest.raises(ValueError, match='x: expected nested dicts of numpy arrays, found a (list|_Array|str|NoneType)'):
    pickle_reader.read_numpy_pickle(write(tmp_path / 'x', value))


@pytest.mark.parametrize('value', [np.array(['text']), np.array([None], object), np.zeros(2, np.complex64)])
def test_arrays_of_other_things(tmp_path, value):
  with pytest.raises(ValueError, match='x: holds an array that is not a plain one of numbers'):
    pickle_reader.read_numpy_pickle(write(tmp_path / 'x', {'a': value}))


def test_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError, match='absent: no such file'):
    pickle_reader.read_numpy_pickle(tmp_path / 'absent')
