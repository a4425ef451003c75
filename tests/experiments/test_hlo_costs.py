"""`experiments/hlo_costs.py` counts what a program costs: against small programs whose costs are known by hand."""

import sys

import jax
import jax.numpy as jnp
import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import hlo_costs  # noqa: E402

# A convolution by cuDNN between a slicing fusion and an elementwise one, as the compiler for GPUs writes them.
GPU = """HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[1,8,8,8]{3,2,1,0})->bf16[1,8,8,4]{3,2,1,0}}

%first_half (param_0: f32[1,8,8,8]) -> bf16[1,8,8,4] {
  %param_0 = f32[1,8,8,8]{3,2,1,0} parameter(0)
  %slice.1 = f32[1,8,8,4]{3,2,1,0} slice(%param_0), slice={[0:1], [0:8], [0:8], [0:4]}
  ROOT %convert.1 = bf16[1,8,8,4]{3,2,1,0} convert(%slice.1), metadata={op_name="jit(f)/half" stack_frame_id=1}
}

%twice (param_0.1: bf16[1,8,8,4]) -> bf16[1,8,8,4] {
  %param_0.1 = bf16[1,8,8,4]{3,2,1,0} parameter(0)
  ROOT %add.1 = bf16[1,8,8,4]{3,2,1,0} add(%param_0.1, %param_0.1)
}

ENTRY %main (x: f32[1,8,8,8], k: bf16[4,3,3,GROUP]) -> bf16[1,8,8,4] {
  %x = f32[1,8,8,8]{3,2,1,0} parameter(0)
  %k = bf16[4,3,3,GROUP]{3,2,1,0} parameter(1)
  %fusion = bf16[1,8,8,4]{3,2,1,0} fusion(%x), kind=kLoop, calls=%first_half
  %conv = (bf16[1,8,8,4]{3,2,1,0}, u8[16]{0}) custom-call(%fusion, %k), window={size=3x3 pad=1_1x1_1}, \
dim_labels=b01f_o01i->b01f, feature_group_count=COUNT, custom_call_target="__cudnn$convForward"
  %get-tuple-element = bf16[1,8,8,4]{3,2,1,0} get-tuple-element(%conv), index=0
  ROOT %fusion.1 = bf16[1,8,8,4]{3,2,1,0} fusion(%get-tuple-element), kind=kLoop, calls=%twice
}
"""
PLANE = 8 * 8 * 4 * 2  # Bytes of bf16[1,8,8,4].


def gpu_module(*, depthwise: bool = False) -> hlo_costs.Module:
  text = GPU.replace('GROUP', '1' if depthwise else '4').replace('COUNT', '4' if depthwise else '1')
  return hlo_costs.Module(text)


def compiled(function, *shapes) -> hlo_costs.Module:
  arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  return hlo_costs.Module(jax.jit(function).lower(*arguments).compile().as_text())


def test_a_cudnn_convolution():
  half, conv, twice = gpu_module().kernels()
  assert conv.operations == {'bf16': 2 * 8 * 8 * 4 * (3 * 3 * 4)}
  assert conv.bytes == PLANE + 4 * 3 * 3 * 4 * 2 + PLANE + 16  # input, kernel, result and scratch
  assert half.operations == twice.operations == {}
  assert twice.bytes == 2 * PLANE


def test_a_slicing_fusion_reads_its_slices_only():
  assert gpu_module().kernels()[0].bytes == 8 * 8 * 4 * 4 + PLANE


def test_a_depthwise_convolution_has_no_tensor_cores():
  assert gpu_module(depthwise=True).kernels()[1].operations == {'fp32': 2 * 8 * 8 * 4 * 9}


def test_live_at_peak():
  """At the peak the convolution's input, or its result's copy, stands beside its result."""
  buffers = gpu_module().live_at_peak()
  assert sorted(buffer.bytes for buffer in buffers) == [PLANE, PLANE + 16]
  assert {buffer.source for buffer in buffers} == {'conv', 'jit(f)/half'}
  assert 'bf16[1,8,8,4]' in {buffer.type for buffer in buffers}


def test_a_compiled_matrix_product():
  kernels = compiled(lambda a, b: a @ b, (16, 32), (32, 8)).kernels()
  assert sum(kernel.operations.get('tf32', 0) for kernel in kernels) == 2 * 16 * 32 * 8
  assert sum(kernel.bytes for kernel in kernels) >= 4 * (16 * 32 + 32 * 8 + 16 * 8)


def test_compiled_transforms():
  real = compiled(jnp.fft.rfft2, (2, 8, 4)).kernels()
  assert sum(kernel.operations.get('fp32', 0) for kernel in real) == 2.5 * 2 * 32 * 5
  whole = compiled(lambda x: jnp.fft.fft(x).real, (2, 8)).kernels()
  assert sum(kernel.operations.get('fp32', 0) for kernel in whole) == 5.0 * 2 * 8 * 3


def test_type_bytes():
  assert hlo_costs.type_bytes('(f32[2,3]{1,0}, u8[0]{0}, pred[4], c64[], s4[8])') == 24 + 0 + 4 + 8 + 8


def test_what_cannot_be_counted_raises():
  with pytest.raises(ValueError, match='is a loop whose length HLO does not tell'):
    compiled(lambda x: jax.lax.while_loop(lambda y: y.sum() < 9, lambda y: y + jnp.sin(y), x), (3,)).kernels()
  with pytest.raises(ValueError, match='a matrix product by cuBLAS'):
    hlo_costs.Module(GPU.replace('__cudnn$convForward', '__cublas$gemm')).kernels()
  with pytest.raises(ValueError, match='No entry computation'):
    hlo_costs.Module('HloModule empty')
  with pytest.raises(ValueError, match='Unbalanced parentheses'):
    hlo_costs.Module('ENTRY %main () -> f32[] {\n  %a = f32[] add(%b, %c\n}')
