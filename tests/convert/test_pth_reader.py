"""The `.pth` reader: tensors come out exactly; damaged, foreign or hostile files are refused, without torch."""

from __future__ import annotations

import os
import pathlib
import pickle
import re
import zipfile

import numpy as np
import pytest

from lh_jax.convert import pth_reader
from lh_jax.convert import tensor_files

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / 'fixtures'
NUMBERS = np.arange(6, dtype=np.float32)


def tensor(*, key='0', count=6, offset=0, shape=(2, 3), strides=(3, 1), storage='FloatStorage', kind='storage'):
  """Pickle program, in protocol 0, of one tensor as torch.save writes it."""
  integers = lambda values: '(' + ''.join(f'I{value}\n' for value in values) + 't'
  pid = f'(V{kind}\nctorch\n{storage}\nV{key}\nVcpu\nI{count}\ntQ'
  return (
    f'ctorch._utils\n_rebuild_tensor_v2\n({pid}I{offset}\n{integers(shape)}{integers(strides)}I00\n'
    'ccollections\nOrderedDict\n)RtR'
  )


def state_dict(**tensors):
  return '}' + ''.join(f'V{name}\n{program}s' for name, program in tensors.items()) + '.'


def write(path, program, storages=(NUMBERS,), **extra):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', program)
    for i, values in enumerate(storages):
      archive.writestr(f'archive/data/{i}', values.tobytes())
    for name, content in extra.items():
      archive.writestr(f'archive/{name}', content)
  return path


def read_one(path, storages=(NUMBERS,), **options):
  return pth_reader.read_pth(write(path, state_dict(a=tensor(**options)), storages))['a']


def test_file_written_by_torch():
  # torch 2.13.0 wrote it: tests/parity/make_dinov2_golden.py. The first number is its cls_token's.
  state = pth_reader.read_pth(FIXTURES / 'dinov2_tiny.pth')
  assert len(state) == 7 + 2 * 14
  assert {
    name: state[name].shape
    for name in ('cls_token', 'pos_embed', 'patch_embed.proj.weight', 'blocks.1.attn.qkv.weight', 'blocks.0.ls1.gamma')
  } == {
    'cls_token': (1, 1, 8),
    'pos_embed': (1, 26, 8),
    'patch_embed.proj.weight': (8, 3, 4, 4),
    'blocks.1.attn.qkv.weight': (24, 8),
    'blocks.0.ls1.gamma': (8,),
  }
  assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in state.values())


def test_tensor(tmp_path):
  np.testing.assert_array_equal(read_one(tmp_path / 'x'), [[0, 1, 2], [3, 4, 5]])


def test_strided_views_share_a_storage(tmp_path):
  program = state_dict(
    transposed=tensor(shape=(3, 2), strides=(1, 3)),
    tail=tensor(offset=4, shape=(2,), strides=(1,)),
    scalar=tensor(offset=5, shape=(), strides=()),
    none=tensor(shape=(0, 3)),
  )
  state = pth_reader.read_pth(write(tmp_path / 'x', program))
  np.testing.assert_array_equal(state['transposed'], [[0, 3], [1, 4], [2, 5]])
  np.testing.assert_array_equal(state['tail'], [4, 5])
  assert state['scalar'] == 5 and state['scalar'].shape == ()
  assert state['none'].shape == (0, 3)


@pytest.mark.parametrize(
  'storage, dtype',
  [('DoubleStorage', np.float64), ('HalfStorage', np.float16), ('LongStorage', np.int64), ('BoolStorage', np.bool_)],
)
def test_other_types(tmp_path, storage, dtype):
  values = np.array([0, 1, 1, 0, 1, 1], dtype)
  read = read_one(tmp_path / 'x', (values,), storage=storage)
  assert read.dtype == dtype
  np.testing.assert_array_equal(read.ravel(), values)


def test_bfloat16_is_widened(tmp_path):
  # 1.5 is 0x3fc0 and -2 is 0xc000 in bfloat16.
  values = np.array([0x3FC0, 0xC000], '<u2')
  read = read_one(tmp_path / 'x', (values,), storage='BFloat16Storage', count=2, shape=(2,), strides=(1,))
  assert read.dtype == np.float32
  np.testing.assert_array_equal(read, [1.5, -2.0])


def test_parameters_are_tensors(tmp_path):
  program = '}Va\nctorch._utils\n_rebuild_parameter\n(' + tensor() + 'I01\nccollections\nOrderedDict\n)RtRs.'
  np.testing.assert_array_equal(pth_reader.read_pth(write(tmp_path / 'x', program))['a'].ravel(), NUMBERS)


def test_hostile_file_is_refused_without_executing_it(tmp_path):
  class Hostile:
    def __reduce__(self):
      return os.mkdir, (str(tmp_path / 'made'),)

  program = pickle.dumps({'a': Hostile()}, protocol=2)
  with pytest.raises(ValueError, match=r'x: .*it refers to posix\.mkdir, .* refused without executing it'):
    pth_reader.read_pth(write(tmp_path / 'x', program))
  assert not (tmp_path / 'made').exists()
  pickle.loads(program)
  assert (tmp_path / 'made').exists()


@pytest.mark.parametrize(
  'name', ['builtins\nexec', 'torch\nload', 'torch.storage\n_load_from_bytes', 'torch._utils\n_rebuild_qtensor']
)
def test_other_globals_are_refused(tmp_path, name):
  with pytest.raises(ValueError, match=r'it refers to ' + name.replace('\n', r'\.')):
    pth_reader.read_pth(write(tmp_path / 'x', f'c{name}\n(Vx\ntR.'))


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(shape=(2, 4)), r'reaches beyond its storage of 6 numbers'),
    (dict(offset=1), r'reaches beyond its storage of 6 numbers'),
    (dict(offset=-1), r'a tensor has offset -1'),
    (dict(strides=(-3, 1)), r'strides \(-3, 1\)'),
    (dict(strides=(1,)), r'shape \(2, 3\) and strides \(1,\)'),
    (dict(shape=(9, 9), strides=(0, 0)), r'repeats the 6 numbers of its storage'),
    (dict(count=7), r'storage 0 holds 6 numbers instead of 7'),
    (dict(key='1'), r'archive/data/1'),
    (dict(kind='module'), r"unknown kind of storage 'module' of 'float32'"),
  ],
)
def test_inconsistent_tensors(tmp_path, options, message):
  with pytest.raises(ValueError, match='x: not a readable PyTorch state dict: .*' + message):
    read_one(tmp_path / 'x', **options)


def test_big_endian_files_are_refused(tmp_path):
  with pytest.raises(ValueError, match='its numbers are big-endian'):
    pth_reader.read_pth(write(tmp_path / 'x', state_dict(a=tensor()), byteorder='big'))


def test_zip_without_a_pickle(tmp_path):
  with zipfile.ZipFile(tmp_path / 'x', 'w') as archive:
    archive.writestr('readme', 'hello')
  with pytest.raises(ValueError, match=r'it holds 0 entries named data\.pkl instead of one'):
    pth_reader.read_pth(tmp_path / 'x')


def test_other_formats_and_truncated_files(tmp_path):
  whole = (FIXTURES / 'dinov2_tiny.pth').read_bytes()
  for content in (b'', pickle.dumps({}), whole[:-100]):
    (tmp_path / 'x').write_bytes(content)
    with pytest.raises(ValueError, match=r'x: not a whole PyTorch zip file.*torch < 1\.6'):
      pth_reader.read_pth(tmp_path / 'x')


def test_damaged_numbers_are_noticed(tmp_path):
  path = write(tmp_path / 'x', state_dict(a=tensor()))
  raw = bytearray(path.read_bytes())
  raw[raw.find(NUMBERS.tobytes()) + 5] ^= 1
  path.write_bytes(raw)
  with pytest.raises(ValueError, match='not a readable PyTorch state dict: Bad CRC-32'):
    pth_reader.read_pth(path)


def test_contents_that_are_no_state_dict(tmp_path):
  with pytest.raises(ValueError, match='expected a state dict, found a ndarray'):
    pth_reader.read_pth(write(tmp_path / 'x', tensor() + '.'))


def test_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError, match='absent: no such file'):
    pth_reader.read_pth(tmp_path / 'absent')


def legacy(path, state, storages=(NUMBERS,), magic=0x1950A86A20F9469CFC6C, little_endian=True, counts=None):
  """Writes the format of torch < 1.6, whose state dict is the given pickle program."""
  parts = [
    pickle.dumps(magic, 2),
    pickle.dumps(1001, 2),
    pickle.dumps({'protocol_version': 1001, 'little_endian': little_endian, 'type_sizes': {'int': 4}}, 2),
    state.encode(),
    pickle.dumps([str(i) for i in range(len(storages))], 2),
  ]
  for i, values in enumerate(storages):
    parts += [(counts[i] if counts else values.size).to_bytes(8, 'little'), values.tobytes()]
  path.write_bytes(b''.join(parts))
  return path


def legacy_tensor(**options):
  # Persistent ids of that format end with the view of the storage that a tensor is of; there is none.
  return tensor(**options).replace('\ntQ', '\nNtQ')


def test_older_format(tmp_path):
  counter = np.arange(3, dtype=np.int64)
  program = state_dict(
    a=legacy_tensor(),
    transposed=legacy_tensor(shape=(3, 2), strides=(1, 3)),
    counter=legacy_tensor(key='1', count=3, offset=2, shape=(), strides=(), storage='LongStorage'),
  )
  state = pth_reader.read_pth(legacy(tmp_path / 'x', program, (NUMBERS, counter)))
  np.testing.assert_array_equal(state['a'], [[0, 1, 2], [3, 4, 5]])
  np.testing.assert_array_equal(state['transposed'], [[0, 3], [1, 4], [2, 5]])
  assert state['counter'] == 2 and state['counter'].dtype == np.int64
  # Whatever the file is called.
  assert set(tensor_files.read(tmp_path / 'x')) == {'a', 'transposed', 'counter'}


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'magic': 0x1950A86A20F9469CFC6D}, 'its magic number or version is unknown'),
    ({'little_endian': False}, 'its numbers are big-endian'),
    ({'counts': (7,)}, 'storage 0 does not hold 6 numbers'),
    ({'storages': (NUMBERS[:5],), 'counts': (6,)}, 'storage 0 does not hold 6 numbers'),
    ({'state': state_dict(a=legacy_tensor(kind='module'))}, "unknown kind of storage 'module'"),
    ({'state': state_dict(a=tensor().replace('\ntQ', '\nI0\ntQ'))}, "unknown kind of storage 'storage'"),
    ({'state': 'cos\nsystem\n(Vtrue\ntR.'}, 'it refers to os.system'),
    ({'state': state_dict(a=legacy_tensor(shape=(3, 3)))}, 'reaches beyond its storage of 6 numbers'),
    ({'state': '(l.', 'storages': ()}, 'expected a state dict, found a list'),
  ],
)
def test_older_files_that_are_refused(tmp_path, changes, message):
  arguments = {'state': state_dict(a=legacy_tensor())} | changes
  with pytest.raises(ValueError, match=re.escape(message)):
    pth_reader.read_pth(legacy(tmp_path / 'x', **arguments))
