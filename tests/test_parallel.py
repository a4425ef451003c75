"""lh_jax.parallel: meshes, shardings, placing."""

import jax
from jax.sharding import PartitionSpec as P
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import parallel
from lh_jax.state import TrainState


@pytest.mark.parametrize(
  'options, shape',
  [
    ({}, (8, 1, 1)),
    ({'fsdp': 4}, (2, 4, 1)),
    ({'data': 1, 'fsdp': 4, 'space': 2}, (1, 4, 2)),
    ({'space': 8}, (1, 1, 8)),
  ],
)
def test_mesh(options, shape):
  assert tuple(parallel.make_mesh(**options).shape.values()) == shape


@pytest.mark.parametrize(
  'options', [{'fsdp': 3}, {'data': 4}, {'data': 16}, {'fsdp': 0}, {'space': 3}, {'space': 0}, {'fsdp': 4, 'space': 4}]
)
def test_mesh_that_does_not_fit(options):
  with pytest.raises(ValueError, match=r'must use all 8 devices; set mesh.data=-1'):
    parallel.make_mesh(**options)


def test_batch_size():
  mesh = parallel.make_mesh()
  parallel.check_batch(16, 30, mesh)
  parallel.check_batch(2, 32, parallel.make_mesh(space=4))
  with pytest.raises(ValueError, match='batch of 12 does not divide over mesh.data x mesh.fsdp = 8 devices'):
    parallel.check_batch(12, 32, mesh)
  parallel.check_batch(4, 64, parallel.make_mesh(space=2), rows=32)
  with pytest.raises(ValueError, match='rows of a crop of 32 do not divide over mesh.space=2 devices by 32: .* of 64'):
    parallel.check_batch(8, 32, parallel.make_mesh(space=2), rows=32)


def test_processes_hold_whole_samples():
  """Whatever order the devices come in; rows are not split over processes."""

  class Device:
    def __init__(self, process_index, id):
      self.process_index, self.id = process_index, id

  devices = [Device(process, 2 * place + process) for place in range(4) for process in range(2)]
  mesh = parallel.make_mesh(fsdp=2, space=2, devices=devices)
  assert [[device.process_index for device in row.flat] for row in mesh.devices] == [[0] * 4, [1] * 4]
  with pytest.raises(ValueError, match='mesh.space=8 must divide the 4 devices of process 0'):
    parallel.make_mesh(space=8, devices=devices)


def test_state_shardings():
  """The largest axis that divides goes over 'fsdp'; small arrays and those that do not divide stay whole."""
  mesh = parallel.make_mesh(fsdp=4)
  shape = lambda *sides: jax.ShapeDtypeStruct(sides, jnp.float32)
  tree = {
    'kernel': shape(3, 3, 16, 64),
    'tall': shape(128, 64),
    'odd': shape(3, 3, 15, 63),
    'small': shape(
      8,
    ),
    'step': shape(),
  }
  specs = jax.tree.map(lambda s: s.spec, parallel.state_shardings(mesh, tree))
  assert specs == {'kernel': P(None, None, None, 'fsdp'), 'tall': P('fsdp'), 'odd': P(), 'small': P(), 'step': P()}
  lower = parallel.state_shardings(mesh, tree, min_size=8)
  assert lower['small'].spec == P('fsdp')


def test_put():
  mesh = parallel.make_mesh(fsdp=2)
  batch = parallel.put_batch({'x': np.arange(16).reshape(8, 2)}, mesh)
  assert batch['x'].sharding.spec == P(parallel.BATCH_AXES)
  np.testing.assert_array_equal(batch['x'], np.arange(16).reshape(8, 2))
  tree = {'w': np.arange(8.0)}
  placed = parallel.put(tree, parallel.state_shardings(mesh, tree, min_size=1))
  assert placed['w'].sharding.spec == P('fsdp')
  np.testing.assert_array_equal(placed['w'], tree['w'])


def test_map_shards_runs_without_collectives():
  mesh = parallel.make_mesh()
  mapped = jax.jit(parallel.map_shards(lambda x: jax.lax.map(lambda row: row * 2, x), mesh))
  x = parallel.put_batch({'x': np.arange(16.0)}, mesh)['x']
  np.testing.assert_array_equal(mapped(x), 2 * np.arange(16.0))
  text = mapped.lower(x).compile().as_text()
  assert 'all-gather' not in text and 'all-reduce' not in text


def test_compile_step_donates_and_keeps_shardings():
  mesh = parallel.make_mesh(fsdp=8)
  tree = TrainState(
    step=np.int32(0), params={'w': np.ones((64, 64), np.float32)}, opt={'m': np.ones(64, np.float32)}, ema={}, stats={}
  )
  shardings = parallel.state_shardings(mesh, tree, min_size=1)
  state, batch = parallel.put(tree, shardings), parallel.put_batch({'x': np.ones((8, 64), np.float32)}, mesh)
  abstract = lambda t: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), t)

  def step(state, frozen, batch):
    params = {'w': state.params['w'] + frozen['f'] + batch['x'].sum()}
    return state.replace(step=state.step + 1, params=params), {'m': batch['x'].mean()}

  frozen = parallel.put({'f': np.float32(1)}, {'f': parallel.replicated(mesh)})
  compiled, seconds = parallel.compile_step(step, abstract(state), abstract(frozen), abstract(batch))
  new, metrics = compiled(state, frozen, batch)
  assert new.params['w'].sharding == shardings.params['w'] and new.opt['m'].sharding == shardings.opt['m']
  assert 'fsdp' in str(shardings.params['w'].spec) and 'fsdp' in str(shardings.opt['m'].spec)
  assert state.params['w'].is_deleted() and not frozen['f'].is_deleted()
  assert float(new.params['w'][0, 0]) == 514.0 and int(new.step) == 1 and float(metrics['m']) == 1.0 and seconds > 0


def test_compilation_cache_has_a_default_place(monkeypatch):
  before = jax.config.jax_compilation_cache_dir
  try:
    monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
    parallel.enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir.endswith('lh_jax/xla')
    jax.config.update('jax_compilation_cache_dir', before)
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', 'somewhere')
    parallel.enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == before
  finally:
    jax.config.update('jax_compilation_cache_dir', before)


def test_space_splits_rows():
  """Programs take and give rows of padding; what they drop does not change the rest."""
  mesh = parallel.make_space_mesh(4)
  image = np.random.default_rng(0).standard_normal((1, 10, 3, 2)).astype(np.float32)

  def fn(params, scale, image):
    return params * scale * image[:, ::2], image.sum()

  shapes = [jax.ShapeDtypeStruct((), np.float32), jax.ShapeDtypeStruct(image.shape, np.float32)]
  compiled = parallel.compile_over_space(fn, mesh, jax.ShapeDtypeStruct((), np.float32), shapes)
  result, total = compiled(
    *jax.device_put((np.float32(2), np.float32(3)), parallel.replicated(mesh)), parallel.put_rows(image, mesh)
  )
  assert result.shape == (1, 8, 3, 2) and len(result.sharding.device_set) == 4
  np.testing.assert_allclose(np.asarray(result)[:, :5], 6 * image[:, ::2], rtol=1e-6)
  np.testing.assert_allclose(total, image.sum(), rtol=1e-4)


@pytest.mark.parametrize('count', [0, 9])
def test_space_mesh_that_does_not_fit(count):
  with pytest.raises(ValueError, match=f'devices must lie between 1 and 8, the devices of this process; got {count}'):
    parallel.make_space_mesh(count)


def test_gather_and_device_name_of_one_process():
  """Of several: tests/test_evaluate_processes.py."""
  assert parallel.gather({'a': 1}) == [{'a': 1}]
  assert parallel.device_name(1) == 'cpu' and parallel.device_name(8) == '8 x cpu'
