"""A data set on the devices gives the crops that the host would have cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import parallel
from lh_jax.data import items
from lh_jax.data import pipeline
from lh_jax.data import resident
from lh_jax.data import sources
from lh_jax.stages import prepare


@pytest.fixture(name='source')
def _source():
  rng = np.random.default_rng(0)
  images = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((9, 14), (8, 8), (20, 11))]
  found = [items.Item(name=f'{i}', height=x.shape[0], width=x.shape[1]) for i, x in enumerate(images)]
  return items.Source(found, lambda index: {'clean': images[index]}, cache_gib=0)


def test_crops_are_those_of_the_host(source):
  """Over forty steps, all eight turns and every image."""
  options = dict(tasks=('haze', 'rain'), batch_size=8, crop_size=8, seed=3, num_steps=40, num_threads=0)
  images = resident.pack(source)
  assert images['pixels'].nbytes == resident.packed_bytes(source)
  cut = jax.jit(lambda images, places: prepare.crops(images, places, size=8))
  turns = set()
  with (
    pipeline.training_batches(source, **options) as whole,
    pipeline.training_batches(source, places_only=True, **options) as places,
  ):
    for expected, found in zip(whole, places, strict=True):
      np.testing.assert_array_equal(found['task'], expected['task'])
      np.testing.assert_array_equal(cut(images, found['place']), expected['clean'])
      turns |= set(found['place'][:, 3].tolist())
  assert turns == set(range(8))


def test_devices_cut_their_own_crops(source):
  """Over eight devices: the same crops, and nothing is sent."""
  mesh = parallel.make_mesh()
  images = resident.pack(source)
  places = np.stack([np.arange(8) % 3, np.zeros(8), np.zeros(8), np.arange(8)], axis=1).astype(np.int32)
  on_devices = parallel.put(images, jax.tree.map(lambda _: parallel.replicated(mesh), images))
  batch = parallel.put_batch({'place': places}, mesh)
  function = jax.jit(
    lambda images, places: prepare.crops(images, places, size=8), out_shardings=parallel.batch_sharding(mesh)
  )
  compiled = function.lower(on_devices, batch['place']).compile()
  assert not any(name in compiled.as_text() for name in ('all-gather', 'all-reduce', 'all-to-all', 'permute'))
  alone = prepare.crops(jax.tree.map(jnp.asarray, images), jnp.asarray(places), size=8)
  np.testing.assert_array_equal(compiled(on_devices, batch['place']), alone)


def test_pairs_stay_on_the_host():
  item = items.Item(name='a', height=8, width=8, degraded='file')
  source = items.Source([item], lambda index: {}, cache_gib=0)
  with pytest.raises(ValueError, match='pairs cannot be kept on the devices: set data.device_gib=0'):
    pipeline.training_batches(source, tasks=('haze',), batch_size=1, crop_size=8, seed=0, num_steps=1, places_only=True)


def test_too_many_pixels_are_refused():
  source = items.Source([items.Item(name='a', height=2**16, width=2**16)], lambda index: {}, cache_gib=0)
  with pytest.raises(ValueError, match='too many for one array; set data.device_gib=0'):
    resident.pack(source)


def test_clean_sources_joined(tmp_path):
  from PIL import Image

  Image.fromarray(np.full((12, 10, 3), 7, np.uint8)).save(tmp_path / 'a.png')
  source = sources.build('folder+dead_leaves', path=tmp_path, painted={'size': 16, 'count': 2, 'seed': 0})
  assert [item.name for item in source.items] == [
    'folder/a.png',
    'dead_leaves/dead_leaves_0_00000.png',
    'dead_leaves/dead_leaves_0_00001.png',
  ]
  assert source[0]['name'] == 'folder/a.png' and (source[0]['clean'] == 7).all()
  np.testing.assert_array_equal(source[2]['clean'], sources.dead_leaves(size=16, count=2)[1]['clean'])
  for name in ('folder+pairs', 'folder+folder', 'folder+uhd_ll'):
    with pytest.raises(ValueError, match='unknown source'):
      sources.build(name, path=tmp_path)
