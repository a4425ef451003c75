"""`experiments/table1.py`: the size of the model, as the paper counts it; the table itself is in test_runs.py."""

import json
import runpy
import sys

from lh_jax import networks as networks_lib
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
from aot_gpu import PAPER_CASE  # noqa: E402
import table1  # noqa: E402


def test_size_of_the_default_model(tmp_path):
  """The README's numbers; whether 4K fits is what the file of `aot_gpu.py` says, of this model, and nothing else."""
  config = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  networks = networks_lib.build({name: config[name].to_dict() for name in networks_lib.SECTIONS})
  size = table1.size(networks)
  assert (size['parameters'], size['multiply_adds']) == (1_203_027, 3_646_373_888)
  assert (
    size['full_size']['fits'] is True and 'compiled for NVIDIA GeForce RTX 3090, not run' in size['full_size']['why']
  )
  file = tmp_path / 'aot_gpu.json'
  assert 'run aot_gpu.py' in table1.full_size(networks, file)['why']
  report = json.loads((ROOT / 'experiments' / 'results' / 'aot_gpu.json').read_text())
  (row,) = [row for row in report['programs'] if row['mode'] == 'whole' and (row['card'], row['size']) == PAPER_CASE]
  for change, fits in (({'peak_bytes': 25 * 2**30}, False), ({'model_operations': 1}, None), ({'card': 'other'}, None)):
    file.write_text(json.dumps(report | {'programs': [row | change]}))
    assert table1.full_size(networks, file)['fits'] is fits
