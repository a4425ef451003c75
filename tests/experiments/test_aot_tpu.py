"""`experiments/aot_tpu.py` reads collectives and counts times; here on the CPU, without libtpu."""

import json
import sys

import jax
import jax.numpy as jnp
import pytest

from lh_jax import parallel
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import aot_tpu  # noqa: E402
import hlo_collectives  # noqa: E402
import tpu_slices  # noqa: E402

TEXT = """
  %s = (f32[32]{0:T(128)S(1)}, f32[64,2]{0,1:T(2,128)}) all-reduce(%a, %b), replica_groups=mesh['x'=4,'y'=2] {'x'}, op_name="jit(step)/norm"
  %send = (bf16[1,8]{1,0}, bf16[1,8]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%c)
  %sent = bf16[1,8]{1,0} collective-permute-done(%send)
  %join = f32[8,4]{1,0} all-gather(%d), replica_groups=[2,4]<=[8], dimensions={0}
  %cut = f32[2]{0} reduce-scatter(%e), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  %start = (f32[2]{0}, f32[8]{0}) all-gather-start(%f), replica_groups=[2,4]<=[8], dimensions={0}
"""


def test_collectives_are_read():
  found = hlo_collectives.collectives(TEXT, 8)
  assert [(c.kind, c.bytes, c.group) for c in found] == [
    ('all-reduce', 4 * (32 + 128), 4),
    ('collective-permute', 16, 8),
    ('all-gather', 128, 4),
    ('reduce-scatter', 32, 4),
    ('all-gather', 32, 4),
  ]
  assert found[0].source == 'jit(step)/norm'
  assert [c.sent for c in found] == [2 * 640 * 3 / 4, 16, 96, 24, 24]
  assert hlo_collectives.totals(found)['all-gather'] == {'count': 2, 'bytes': 160, 'sent': 120}
  assert hlo_collectives.largest(found, 1)[0] == {
    'kind': 'all-reduce',
    'bytes': 640,
    'source': 'jit(step)/norm',
    'count': 1,
  }


def test_a_real_program():
  mesh = parallel.make_mesh()
  x = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=parallel.batch_sharding(mesh))
  compiled = jax.jit(lambda x: x.sum(axis=0), out_shardings=parallel.replicated(mesh)).lower(x).compile()
  (found,) = hlo_collectives.collectives(compiled.as_text(), 8)
  assert (found.kind, found.bytes, found.group) == ('all-reduce', 128, 8)


def test_slices():
  for name, chip in tpu_slices.CHIPS.items():
    assert chip.source and set(chip.slices) == {4, 8, 16, 32, 64, 128, 256}, name
    assert all(tpu_slices.ring_bandwidth(chip, n) <= chip.links * chip.link for n in chip.slices)
  # All links of a chip, in both directions: the published 400 GB/s of a v5e.
  assert 2 * tpu_slices.ring_bandwidth(tpu_slices.CHIPS['v5e'], 256) == 400
  assert tpu_slices.ring_bandwidth(tpu_slices.CHIPS['v5e'], 4) == 100


def test_times():
  row = {'chip': 'v5e', 'chips': 4, 'operations': 197e9, 'bytes_accessed': 819e6 * 3}
  row['collectives'] = {'all-reduce': {'count': 5, 'bytes': 0, 'sent': 10**8}}
  found = aot_tpu.times(row)
  assert (found['compute_ms'], found['memory_ms'], found['links_ms']) == (1.0, 3.0, 1.0)
  # Two hops to the opposite corner of a square, there and back.
  assert found['latency_ms'] == pytest.approx(5 * 4e-3)
  assert found['efficiency'] == pytest.approx(3 / 4.02, abs=1e-4)


def test_cases():
  default, every = aot_tpu.cases(False), aot_tpu.cases(True)
  assert set(default) <= set(every) and len({case.key for case in every}) == len(every)
  assert {case.chip for case in default} == set(tpu_slices.CHIPS)
  assert all(not aot_tpu._batch(c) * c.space % c.chips for c in every if c.program in aot_tpu.PHASES)
  assert aot_tpu._batch(aot_tpu.Case('stage 1', 'v5e', 256)) == 1024


def test_inference_is_compiled_and_measured(tiny_config, monkeypatch):
  monkeypatch.setitem(aot_tpu.SIZES, 'small', (128, 64))
  case = aot_tpu.Case('small decode', 'v5e', 4, 'space')
  row = aot_tpu.measure(case, aot_tpu.compile_inference(tiny_config, case, jax.devices()[:4], jnp.float32))
  assert set(row['collectives']) <= {'collective-permute', 'all-reduce'}
  assert 0 < row['efficiency'] <= 1 and row['peak_bytes'] > 0
  json.dumps(row)
  assert 'v5e-4' in aot_tpu.table([row | {'compile_seconds': 1.0}])
  chip = tpu_slices.CHIPS['v5e']
  monkeypatch.setitem(tpu_slices.CHIPS, 'v5e', aot_tpu.dataclasses.replace(chip, memory_bytes=1))
  with pytest.raises(MemoryError, match='the chip has 1'):
    aot_tpu.measure(case, aot_tpu.compile_inference(tiny_config, case, jax.devices()[:4], jnp.float32))


def test_without_libtpu(monkeypatch):
  def missing(*args, **kwargs):
    raise RuntimeError('no libtpu')

  monkeypatch.setattr(aot_tpu.topologies, 'get_topology_desc', missing)
  with pytest.raises(SystemExit, match='No slice v5e:2x2 .*: install what the docstring'):
    aot_tpu.devices_of(tpu_slices.CHIPS['v5e'], 4)


@pytest.mark.parametrize(
  'case',
  [
    aot_tpu.Case('encoder_lora', 'v5e', 8),
    aot_tpu.Case('restorer', 'v5e', 8, fsdp=4),
    aot_tpu.Case('4K encode', 'v5e', 8, 'space'),
  ],
  ids=lambda case: case.key,
)
def test_programs_are_compiled_as_training_and_inference_do(tiny_config, monkeypatch, case):
  """For the eight devices at hand in place of a slice."""
  monkeypatch.setitem(aot_tpu.SIZES, '4K', (256, 128))
  devices, dtype = jax.devices(), jnp.float32
  compile_ = aot_tpu.compile_training if case.program in aot_tpu.PHASES else aot_tpu.compile_inference
  row = aot_tpu.measure(case, compile_(tiny_config, case, devices, dtype))
  assert row['peak_bytes'] > 0 and 0 < row['efficiency'] <= 1
  kinds = set(row['collectives'])
  # Over space the one sum says whether all values were finite.
  more = 'collective-permute' if case.scaling == 'space' else 'all-gather'
  assert 'all-reduce' in kinds and kinds <= {'all-reduce', more}, row['collectives']
