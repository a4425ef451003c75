"""lh_jax.checkpoint: save, restore, identity."""

import json
import pathlib
import shutil
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import checkpoint
from lh_jax import parallel

from tests import processes


def state(value=1.0, size=64):
  return {'w': jnp.full((size, 8), value), 'step': jnp.int32(3)}


def abstract(tree, mesh=None):
  shardings = parallel.state_shardings(mesh or parallel.make_mesh(), tree, min_size=1)
  return parallel.abstract_like(tree, shardings)


def test_round_trip_and_keep(tmp_path):
  with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=2) as checkpoints:
    assert checkpoints.latest_step() is None
    for step in (1, 2, 3):
      checkpoints.save(step, state(step))
    checkpoints.save(3, state(9.0))
  with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=2) as checkpoints:
    assert checkpoints.latest_step() == 3
    checkpoints.check_identity(3)
    restored = checkpoints.restore(3, abstract(state()))
    np.testing.assert_array_equal(restored['w'], np.full((64, 8), 3.0))
    with pytest.raises(FileNotFoundError):
      checkpoints.restore(1, abstract(state()))


MESHES = {'one': (1, 1), 'four': (4, 1), 'four, sharded': (4, 4), 'eight': (8, 1), 'eight, sharded': (8, 8)}


@pytest.mark.parametrize('after', MESHES)
@pytest.mark.parametrize('before', MESHES)
def test_restores_onto_other_devices(tmp_path, before, after):
  first, second = (
    parallel.make_mesh(fsdp=fsdp, devices=jax.devices()[:count]) for count, fsdp in (MESHES[before], MESHES[after])
  )
  saved = {'w': np.arange(512.0, dtype=np.float32).reshape(64, 8)}
  with checkpoint.Checkpointer(tmp_path, identity={}, keep=1) as checkpoints:
    checkpoints.save(1, parallel.put(saved, parallel.state_shardings(first, saved, min_size=1)))
  with checkpoint.Checkpointer(tmp_path, identity={}, keep=1) as checkpoints:
    wanted = abstract(saved, second)
    restored = checkpoints.restore(1, wanted)
    assert restored['w'].sharding == wanted['w'].sharding
    np.testing.assert_array_equal(restored['w'], saved['w'])


def test_a_background_save_does_not_see_later_steps(tmp_path):
  """The state is donated right after the save starts; the file must hold what was there before."""
  bump = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
  current = {'w': jnp.zeros((1024, 512))}
  with checkpoint.Checkpointer(tmp_path, identity={}, keep=1) as checkpoints:
    checkpoints.save(1, current)
    for _ in range(20):
      current = bump(current)
  with checkpoint.Checkpointer(tmp_path, identity={}, keep=1) as checkpoints:
    assert float(jnp.abs(checkpoints.restore(1, abstract(current))['w']).max()) == 0.0


def test_identity_names_every_difference(tmp_path):
  identity = {'vae': {'preset': 'lh', 'norm': None}, 'dims': (1, 2), 'stage': 'stage1'}
  with checkpoint.Checkpointer(tmp_path, identity=identity, keep=1) as checkpoints:
    checkpoints.save(1, state())
  with checkpoint.Checkpointer(tmp_path, identity=identity, keep=1) as checkpoints:
    checkpoints.check_identity(1)
  other = {'vae': {'preset': 'vae1', 'norm': None}, 'dims': (1, 3), 'stage': 'stage1'}
  with checkpoint.Checkpointer(tmp_path, identity=other, keep=1) as checkpoints:
    with pytest.raises(
      ValueError,
      match=r'another configuration: dims is \[1, 2\] there and \[1, 3\] here; '
      "vae.preset is 'lh' there and 'vae1' here.*--workdir",
    ):
      checkpoints.check_identity(1)


def test_keep_is_checked(tmp_path):
  with pytest.raises(ValueError, match='train.keep_checkpoints must be at least 1, got 0'):
    checkpoint.Checkpointer(tmp_path, identity={}, keep=0)


def two_checkpoints(folder, value=state):
  with checkpoint.Checkpointer(folder, identity={'a': 1}, keep=2) as checkpoints:
    for step in (1, 2):
      checkpoints.save(step, value(float(step)))


def biggest(folder):
  return max((path for path in folder.rglob('*') if path.is_file()), key=lambda path: path.stat().st_size)


def cut(folder):
  path = biggest(folder)
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
  'a file cut short': lambda folder: cut(folder / 'state' / 'd'),
  'a file that is gone': lambda folder: biggest(folder / 'state' / 'd').unlink(),
  'no description': lambda folder: (folder / 'state' / '_METADATA').write_bytes(b''),
  'no identity': lambda folder: (folder / 'identity' / 'metadata').write_bytes(b'{'),
  'half a folder': lambda folder: shutil.rmtree(folder / 'state'),
}


@pytest.mark.parametrize('checksums', ['with checksums', 'of an earlier version'])
@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, damage, checksums, caplog):
  two_checkpoints(tmp_path, value=random_state)
  DAMAGES[damage](tmp_path / '2')
  if checksums == 'of an earlier version':
    (tmp_path / '2' / checkpoint.CHECKSUMS).unlink()
  with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=2) as checkpoints:
    assert checkpoints.latest_step() == 1
    checkpoints.check_identity(1)
    restored = checkpoints.restore(1, abstract(random_state(1)))
    np.testing.assert_array_equal(restored['w'], random_state(1)['w'])
    assert 'The checkpoint of step 2' in caplog.text and 'cannot be read and is set aside' in caplog.text
    checkpoints.save(2, random_state(5))
  assert (tmp_path / 'damaged-2').is_dir() and (tmp_path / '2').is_dir()


def random_state(number):
  """Numbers that do not compress, which is why a flipped bit of theirs goes unnoticed when they are read."""
  return {'w': np.random.default_rng(int(number)).standard_normal((512, 64)).astype(np.float32)}


SPOILS = {
  'emptied': lambda data: b'',
  'cut short': lambda data: data[: len(data) // 2],
  'one bit flipped': lambda data: (
    data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
  ),
}


@pytest.mark.parametrize('spoil', SPOILS)
def test_no_file_can_be_damaged_unnoticed(tmp_path, spoil):
  """Whichever it is, what is restored is what was written: of this checkpoint or of the one before."""
  two_checkpoints(tmp_path / 'whole', value=random_state)
  files = [
    path.relative_to(tmp_path / 'whole' / '2') for path in (tmp_path / 'whole' / '2').rglob('*') if path.is_file()
  ]
  assert pathlib.Path(checkpoint.CHECKSUMS) in files and len(files) > 5
  fell_back = set()
  for number, file in enumerate(files):
    folder = tmp_path / str(number)
    shutil.copytree(tmp_path / 'whole', folder)
    path = folder / '2' / file
    path.write_bytes(SPOILS[spoil](path.read_bytes()))
    with checkpoint.Checkpointer(folder, identity={'a': 1}, keep=2) as checkpoints:
      step = checkpoints.latest_step()
      checkpoints.check_identity(step)
      restored = checkpoints.restore(step, abstract(random_state(step)))
      np.testing.assert_array_equal(restored['w'], random_state(step)['w'], err_msg=str(file))
      fell_back |= {file} if step == 1 else set()
  # A restore does not read these.
  assert set(files) - fell_back == {pathlib.Path('_CHECKPOINT_METADATA'), pathlib.Path('commit_success.txt')}


def test_a_step_that_is_damaged_again(tmp_path):
  two_checkpoints(tmp_path)
  for _ in range(2):
    DAMAGES['no identity'](tmp_path / '2')
    with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=2) as checkpoints:
      assert checkpoints.latest_step() == 1
      checkpoints.save(2, state(2.0))
  assert {path.name for path in tmp_path.iterdir()} == {'1', '2', 'damaged-2', 'damaged-2-2'}


def test_a_damaged_checkpoint_that_cannot_be_renamed(tmp_path, monkeypatch):
  def fails(*_):
    raise PermissionError('not yours')

  two_checkpoints(tmp_path)
  DAMAGES['no identity'](tmp_path / '2')
  with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=2) as checkpoints:
    with monkeypatch.context() as patch:
      patch.setattr(pathlib.Path, 'rename', fails)
      with pytest.raises(OSError, match='The damaged checkpoint .*/2 cannot be renamed: PermissionError: not yours'):
        checkpoints.latest_step()


def test_a_storage_that_refuses_sets_nothing_aside(tmp_path, monkeypatch):
  def refuses(*_):
    raise PermissionError('not yours')

  two_checkpoints(tmp_path)
  with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=2) as checkpoints:
    with monkeypatch.context() as patch:
      patch.setattr(checkpoint, '_checksums', refuses)
      with pytest.raises(
        OSError, match='The checkpoint of step 2 in .* cannot be read now: PermissionError: not yours'
      ):
        checkpoints.latest_step()
    assert checkpoints.latest_step() == 2
  assert not list(tmp_path.glob('damaged-*'))


def test_no_start_from_scratch_where_all_are_damaged(tmp_path):
  two_checkpoints(tmp_path)
  for step in '12':
    DAMAGES['no identity'](tmp_path / step)
  for _ in range(2):
    with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=2) as checkpoints:
      with pytest.raises(ValueError, match='No checkpoint in .* can be read: damaged-1, damaged-2. Repair one'):
        checkpoints.latest_step()


def test_what_a_killed_save_leaves_is_removed(tmp_path):
  two_checkpoints(tmp_path)
  (tmp_path / '7.orbax-checkpoint-tmp').mkdir()
  with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=2) as checkpoints:
    assert checkpoints.latest_step() == 2
    checkpoints.save(3, state())
  assert sorted(path.name for path in tmp_path.iterdir()) == ['2', '3']


def test_half_a_save_is_none(tmp_path):
  """As a lost machine leaves it: orbax renames the folder of a save when it is complete."""
  two_checkpoints(tmp_path)
  (tmp_path / '2').rename(tmp_path / '2.orbax-checkpoint-tmp')
  with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=2) as checkpoints:
    assert checkpoints.latest_step() == 1


def test_another_format_is_refused(tmp_path, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(checkpoint, 'FORMAT', 7)
    two_checkpoints(tmp_path)
  with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=2) as checkpoints:
    with pytest.raises(ValueError, match='holds checkpoints of format 7, this version of lh_jax reads format 1'):
      checkpoints.check_identity(2)


def test_checkpoints_without_a_format_are_of_the_first(tmp_path):
  two_checkpoints(tmp_path)
  path = tmp_path / '2' / 'identity' / 'metadata'
  identity = json.loads(path.read_text())
  assert identity.pop('format') == 1
  path.write_text(json.dumps(identity))
  with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=2) as checkpoints:
    checkpoints.check_identity(2)


FULL_DISK = """
import pathlib, resource, sys
sys.path.insert(0, ROOT)
from tests import conftest, test_checkpoint
from lh_jax import checkpoint
folder = pathlib.Path(sys.argv[1])
try:
  with checkpoint.Checkpointer(folder, identity={'a': 1}, keep=2) as checkpoints:
    checkpoints.save(1, test_checkpoint.state(1.0))
    checkpoints.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    checkpoints.save(2, {'w': conftest.np.random.default_rng(0).standard_normal((512, 512))})
    checkpoints.wait()
except OSError as error:
  print('SAYS', error)
"""


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path):
  """A limit on the size of files stands for the disk's."""
  result = subprocess.run(
    [sys.executable, '-c', FULL_DISK.replace('ROOT', repr(str(processes.ROOT))), str(tmp_path)],
    capture_output=True,
    text=True,
    check=False,
    timeout=processes.TIMEOUT,
  )
  assert f'SAYS The checkpoint of step 2 could not be saved in {tmp_path}' in result.stdout, result.stderr
  assert 'Those before it are untouched' in result.stdout
  with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=2) as checkpoints:
    assert checkpoints.latest_step() == 1
    checkpoints.restore(1, abstract(state()))
    checkpoints.save(2, state(2.0))
  assert sorted(path.name for path in tmp_path.iterdir()) == ['1', '2']


def test_a_save_that_fails_is_named_by_the_next(tmp_path, monkeypatch):
  """Its checksums are written last; while they are not, it is no checkpoint."""
  may_go = threading.Event()

  def fails(_):
    may_go.wait()
    raise OSError('no space left')

  checkpoints = checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=1)
  checkpoints.save(1, state(1.0))
  checkpoints.wait()
  with monkeypatch.context() as patch:
    patch.setattr(checkpoint, '_checksums', fails)
    checkpoints.save(2, state(2.0))
    threading.Timer(0.5, may_go.set).start()
    with pytest.raises(OSError, match='The checkpoint of step 2 could not be saved in .*: no space left'):
      checkpoints.save(3, state(3.0))
  with checkpoint.Checkpointer(tmp_path, identity={'a': 1}, keep=1) as checkpoints:
    assert checkpoints.latest_step() == 1


@pytest.mark.parametrize('moment', ['save', 'wait_until_finished', 'check_for_errors'])
def test_a_save_that_fails_is_an_error(tmp_path, moment, monkeypatch):
  def fails(*_, **__):
    raise RuntimeError('no space left')

  with checkpoint.Checkpointer(tmp_path, identity={}, keep=1) as checkpoints:
    with monkeypatch.context() as patch:
      patch.setattr(checkpoints._manager, moment, fails)
      with pytest.raises(OSError, match='could not be saved in .*: no space left Those before it'):
        checkpoints.save(1, state())
        checkpoints.wait()


SAVE = """
import pathlib
import numpy as np
from lh_jax import checkpoint, parallel
folder, task = pathlib.Path(sys.argv[1]), sys.argv[2]
mesh = parallel.make_mesh(fsdp=8)
tree = {'w': np.arange(512.0, dtype=np.float32).reshape(64, 8)}
shardings = parallel.state_shardings(mesh, tree, min_size=1)
if task == 'apart':
  folder = folder / str(parallel.jax.process_index())
with checkpoint.Checkpointer(folder, identity={}, keep=2) as checkpoints:
  if task == 'save':
    for step in (1, 2):
      checkpoints.save(step, parallel.put({'w': tree['w'] + step}, shardings))
  try:
    step = checkpoints.latest_step()
    state = checkpoints.restore(step, parallel.abstract_like(tree, shardings))
    say(step, float(parallel.jax.jit(lambda x: x.sum() - tree['w'].sum())(state['w'])) / 512)
  except ValueError as error:
    say(error)
"""


def test_two_processes_fall_back_together(tmp_path):
  assert [said for said, _ in processes.run(SAVE, tmp_path / 'shared', 'save')] == [['2 2.0']] * 2
  for path in (tmp_path / 'shared' / '2').rglob('*'):
    if path.is_file() and path.parent.name == 'd':
      path.write_bytes(path.read_bytes()[:10])
  (first, told), (second, _) = processes.run(SAVE, tmp_path / 'shared', 'restore')
  assert first == second == ['1 1.0'] and 'The checkpoint of step 2' in told


def test_a_work_directory_that_is_not_shared(tmp_path):
  """Each host sees what is on its own disk."""
  two_checkpoints(tmp_path / '1')
  (first, _), (second, _) = processes.run(SAVE, tmp_path, 'apart')
  assert all('see different checkpoints' in said[0] and '[[], [1, 2]]' in said[0] for said in (first, second))
