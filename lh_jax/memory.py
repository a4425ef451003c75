"""Memory of the host and of devices: how much is free, which errors mean that there was too little. In bytes."""

from __future__ import annotations

import ctypes
import pathlib
import re
import sys
import typing

import psutil

if typing.TYPE_CHECKING:
  import jax

# A program that would fill what is free to the last byte fails: other programs, fragments, libraries' work space.
SAFE_SHARE = 0.8

# How backends say it. The last ones are a full memory in disguise: no algorithm found that fits beside the data.
_OUT_OF_MEMORY = re.compile(
  r'RESOURCE_EXHAUSTED|out of memory|bad_alloc|failed to allocate|unable to allocate|CUDA_ERROR_OUT_OF_MEMORY'
  r'|CUDNN_STATUS_(INTERNAL_ERROR_DEVICE_|HOST_)?ALLOC\w*|CUBLAS_STATUS_ALLOC_FAILED|CUFFT_ALLOC_FAILED'
  r'|failed to determine best cudnn (convolution )?algorithm|all algorithms tried for .* failed'
  r'|failed to create cu(fft|dnn|blas)\w* .*plan|scratch allocator',
  re.IGNORECASE,
)
# malloc.h and sys/mman.h of Linux
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_MADV_HUGEPAGE = 14
_LARGE_PAGE = 2**21
_keeps_pages = False  # of the process, like what it tells of
_UNITS = {'': 1, 'k': 2**10, 'm': 2**20, 'g': 2**30, 't': 2**40}


def available(device: jax.Device) -> int:
  """Returns the bytes that a program can still take on this device: on accelerators by its allocator's count, on the
  CPU by what the system, or the control group that this process runs in, still gives.
  """
  stats = device.memory_stats() or {}
  if 'bytes_limit' in stats:
    return max(stats['bytes_limit'] - stats.get('bytes_in_use', 0), 0)
  return min([psutil.virtual_memory().available, *_control_group_left()]) + _kept_pages()


def _control_group_left() -> list[int]:
  """What the limit of a container or service leaves (cgroup v2 or v1), where there is one; cached files give way."""
  found = []
  for folder, limit, usage, cached in (
    (_own_control_group(), 'memory.max', 'memory.current', 'inactive_file'),
    ('/sys/fs/cgroup', 'memory.max', 'memory.current', 'inactive_file'),
    ('/sys/fs/cgroup/memory', 'memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'),
  ):
    try:
      allowed, used, stat = (pathlib.Path(folder, name).read_text() for name in (limit, usage, 'memory.stat'))
      files = dict(line.split() for line in stat.splitlines()).get(cached, 0)
      found.append(max(int(allowed) - int(used) + int(files), 0))
    except (OSError, ValueError):  # no such group, or 'max': no limit
      continue
  return found


def _own_control_group() -> str:
  """The folder of this process's group (cgroup v2)."""
  try:
    lines = pathlib.Path('/proc/self/cgroup').read_text().splitlines()
  except OSError:  # no Linux
    lines = []
  return '/sys/fs/cgroup' + next((line[3:] for line in lines if line.startswith('0::')), '/')


def _kept_pages() -> int:
  """Bytes that this process has freed and, after `keep_freed_pages`, keeps: the next array takes them."""
  if not _keeps_pages:
    return 0
  libc = ctypes.CDLL(None)
  try:
    libc.mallinfo2.restype = _MallInfo
    maps = pathlib.Path('/proc/self/smaps').read_text()
  except (AttributeError, OSError):  # an older C library, or no /proc
    return 0
  # The heap is in pieces where a part of it has large pages.
  heap = sum(map(int, re.findall(r'\[heap\]\n(?:.*\n)*?Rss:\s+(\d+) kB', maps)))
  return max(heap * 1024 - libc.mallinfo2().uordblks, 0)


class _MallInfo(ctypes.Structure):
  """struct mallinfo2 of malloc.h."""

  _fields_ = [
    (name, ctypes.c_size_t)
    for name in 'arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost'.split()
  ]


def is_out_of_memory(error: BaseException) -> bool:
  """Whether an error means that memory ran out, also where it says something else."""
  return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def parse_size(text: str) -> int:
  """Returns the bytes that '4G', '800M' or '1.5 GiB' name (powers of 1024).

  Raises:
    ValueError: it names no size above zero.
  """
  match = re.fullmatch(r'\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)(i?b)?\s*', text, re.IGNORECASE)
  size = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
  if size < 1:
    raise ValueError(f'{text!r} is no memory size; write it like 800M or 4G.')
  return size


def in_words(size: int) -> str:
  """Returns a size for people: '3.2 GiB', '410 MiB'."""
  return f'{size / 2**30:.1f} GiB' if size >= 2**30 else f'{size / 2**20:.0f} MiB'


def keep_freed_pages() -> None:
  """Makes this process keep the pages that it frees, in large pages where the system grants them (glibc on Linux).

  By default every large array takes fresh pages from the system and returns them, and the page faults cost more than
  the arithmetic of everything but convolutions (`experiments/bench_inference.py --allocator=system` shows it). Set
  once, early, by programs that own their process; resident memory then stays at its peak.
  """
  if sys.platform != 'linux':
    return
  try:
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
  except (OSError, AttributeError):  # another C library
    return
  global _keeps_pages
  _keeps_pages = True
  libc.mallopt(_M_TRIM_THRESHOLD, -1)
  # One heap for all threads: what one frees, the next can use.
  libc.mallopt(_M_ARENA_MAX, 1)
  # A block that is taken and given back at once becomes the end of the heap: address space only, no memory.
  size = psutil.virtual_memory().total // 2
  libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
  libc.madvise.argtypes, libc.free.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int], [ctypes.c_void_p]
  block = libc.malloc(size)
  if block:
    start = -(-block // _LARGE_PAGE) * _LARGE_PAGE
    libc.madvise(start, (block + size - start) // _LARGE_PAGE * _LARGE_PAGE, _MADV_HUGEPAGE)
    libc.free(block)
