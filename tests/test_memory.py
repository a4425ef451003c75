"""What is free, which errors mean too little of it, sizes as people write them, pages that are kept."""

import pathlib
import resource
import subprocess
import sys

import jax
import psutil
import pytest

from lh_jax import memory


class _Gpu:
  """A device whose allocator counts, as those of CUDA do."""

  def memory_stats(self):
    return {'bytes_limit': 1000, 'bytes_in_use': 300}


def test_available():
  assert memory.available(_Gpu()) == 700
  free = memory.available(jax.devices()[0])
  assert 2**20 < free <= psutil.virtual_memory().total


def test_the_limit_of_a_container_counts(monkeypatch):
  files = {
    '/sys/fs/cgroup/memory.max': '5000\n',
    '/sys/fs/cgroup/memory.current': '4500\n',
    '/sys/fs/cgroup/memory.stat': 'anon 4000\ninactive_file 500\n',
  }

  def read(path):
    if str(path) not in files:
      raise FileNotFoundError(path)
    return files[str(path)]

  monkeypatch.setattr(pathlib.Path, 'read_text', read)
  assert memory.available(jax.devices()[0]) == 1000
  files['/sys/fs/cgroup/memory.max'] = 'max\n'
  assert memory.available(jax.devices()[0]) > 2**20
  own = '/sys/fs/cgroup/user.slice/restore.service'
  files['/proc/self/cgroup'] = '0::/user.slice/restore.service\n'
  files |= {f'{own}/memory.max': '900\n', f'{own}/memory.current': '100\n', f'{own}/memory.stat': ''}
  assert memory.available(jax.devices()[0]) == 800


@pytest.mark.parametrize(
  'error',
  [
    MemoryError(),
    RuntimeError('RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123 bytes'),
    RuntimeError('INTERNAL: Failed to determine best cudnn convolution algorithm for: %cudnn-conv'),
    RuntimeError('INTERNAL: CUBLAS_STATUS_ALLOC_FAILED'),
    RuntimeError('UNKNOWN: CUDNN_STATUS_ALLOC_FAILED in ...'),
    RuntimeError('INTERNAL: Failed to create cuFFT batched plan with scratch allocator'),
    RuntimeError('std::bad_alloc'),
  ],
)
def test_errors_that_mean_out_of_memory(error):
  assert memory.is_out_of_memory(error)


@pytest.mark.parametrize('error', [ValueError('a shape'), RuntimeError('INVALID_ARGUMENT: dimension 3')])
def test_errors_that_mean_something_else(error):
  assert not memory.is_out_of_memory(error)


@pytest.mark.parametrize(
  'text, size', [('4G', 4 * 2**30), ('800m', 800 * 2**20), ('1.5 GiB', 3 * 2**29), ('123', 123), ('2kB', 2048)]
)
def test_parse_size(text, size):
  assert memory.parse_size(text) == size


@pytest.mark.parametrize('text', ['', '4X', '-1G', '0', 'G', '4 G of it'])
def test_parse_size_refuses(text):
  with pytest.raises(ValueError, match='is no memory size; write it like 800M or 4G'):
    memory.parse_size(text)


def test_in_words():
  assert memory.in_words(3 * 2**29) == '1.5 GiB'
  assert memory.in_words(410 * 2**20) == '410 MiB'


KEPT = """
import numpy as np
from lh_jax import memory
memory.keep_freed_pages()
array = np.ones(2**28, np.uint8)
held = memory._kept_pages()
del array
print((memory._kept_pages() - held) / 2**28)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='needs glibc')
def test_pages_that_are_kept_count_as_free():
  output = subprocess.run([sys.executable, '-c', KEPT], capture_output=True, text=True, check=True).stdout
  assert float(output) == pytest.approx(1.0, abs=0.1)


FAULTS = """
import resource, sys
import numpy as np
from lh_jax import memory
if sys.argv[1] == 'keep':
  memory.keep_freed_pages()
def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  np.ones(2**25, np.uint8)
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='needs glibc')
def test_freed_pages_are_kept():
  def faults(how):
    return int(subprocess.run([sys.executable, '-c', FAULTS, how], capture_output=True, text=True, check=True).stdout)

  assert faults('keep') < 100 < faults('return')
  assert resource.getpagesize() <= 2**16  # else the numbers above mean nothing
