"""GPUs by their data sheets, and how to describe one to XLA, which then compiles for it without having it."""

from __future__ import annotations

import dataclasses

# The compiler asks which library versions it may call; nothing is loaded.
CUDA, CUDNN = (12, 9, 0), (9, 10, 0)


@dataclasses.dataclass(frozen=True)
class Card:
  """A GPU by its data sheet. Rates are dense TFLOP/s with float32 sums, bandwidth in GB/s.

  Shared memory and threads are per multiprocessor, from the CUDA programming guide's table for the compute capability.
  """

  title: str
  source: str
  capability: tuple[int, int]
  multiprocessors: int
  clock_ghz: float
  memory_gib: int
  bandwidth: int
  l2_mib: int
  bf16: float
  tf32: float
  fp32: float
  threads: int = 1536
  shared_kib: int = 100


CARDS = {
  'rtx3090': Card(
    title='NVIDIA GeForce RTX 3090',
    source='NVIDIA Ampere GA102 GPU architecture whitepaper v2, appendix A',
    capability=(8, 6),
    multiprocessors=82,
    clock_ghz=1.695,
    memory_gib=24,
    bandwidth=936,
    l2_mib=6,
    bf16=71.0,
    tf32=35.6,
    fp32=35.6,
  ),
  'rtx4060laptop': Card(
    title='NVIDIA GeForce RTX 4060 Laptop GPU',
    source='NVIDIA GeForce RTX 40 laptop specifications (3072 cores, up to 2.37 GHz, 128 bit at 16 Gbit/s); rates are '
    'cores x 2 x clock, twice that in bf16, the ratios of the NVIDIA Ada GPU architecture whitepaper',
    capability=(8, 9),
    multiprocessors=24,
    clock_ghz=2.37,
    memory_gib=8,
    bandwidth=256,
    l2_mib=32,
    bf16=29.1,
    tf32=14.6,
    fp32=14.6,
  ),
  'h100': Card(
    title='NVIDIA H100 80GB HBM3',
    source='NVIDIA H100 data sheet, SXM5',
    capability=(9, 0),
    multiprocessors=132,
    clock_ghz=1.98,
    memory_gib=80,
    bandwidth=3350,
    l2_mib=50,
    bf16=989.0,
    tf32=494.0,
    fp32=67.0,
    threads=2048,
    shared_kib=228,
  ),
}


def target_config(card: Card) -> str:
  """Describes a card as the text of XLA's GpuTargetConfigProto."""
  major, minor = card.capability
  device = {
    'threads_per_block_limit': 1024,
    'threads_per_warp': 32,
    'shared_memory_per_block': 48 * 2**10,
    # One KiB of each multiprocessor is the system's.
    'shared_memory_per_block_optin': (card.shared_kib - 1) * 2**10,
    'shared_memory_per_core': card.shared_kib * 2**10,
    'threads_per_core_limit': card.threads,
    'core_count': card.multiprocessors,
    'fpus_per_core': 128,
    'block_dim_limit_x': 2**31 - 1,
    'block_dim_limit_y': 2**16 - 1,
    'block_dim_limit_z': 2**16 - 1,
    'memory_bandwidth': card.bandwidth * 10**9,
    'l2_cache_size': card.l2_mib * 2**20,
    'clock_rate_ghz': card.clock_ghz,
    'device_memory_size': card.memory_gib * 2**30,
    'registers_per_core_limit': 2**16,
    'registers_per_block_limit': 2**16,
  }
  fields = ' '.join(f'{name}: {value}' for name, value in device.items())
  versions = [
    f'{name} {{ major: {a} minor: {b} patch: {c} }}'
    for name, (a, b, c) in (('dnn_version_info', CUDNN), ('runtime_version', CUDA))
  ]
  return '\n'.join(
    [
      'platform_name: "CUDA"',
      f'device_description_str: "{card.title}"',
      *versions,
      f'gpu_device_info {{ {fields} cuda_compute_capability {{ major: {major} minor: {minor} }} }}\n',
    ]
  )
