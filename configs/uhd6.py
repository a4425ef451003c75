"""The paper's six-degradation setting (Table 2): the four of configs/uhd4.py with noise at sigma 50 only, and rain and
snow.

  python -m lh_jax.main --config=configs/uhd6.py --workdir=runs/uhd6 --config.data.path=DATA

DATA is as for configs/uhd4.py, with rain/{input,gt} and snow/{input,gt} beside the others. The argument picks the
stage, as there.
"""

from pathlib import Path
import runpy

from ml_collections import ConfigDict

UHD4 = runpy.run_path(str(Path(__file__).with_name('uhd4.py')))


def get_config(arg: str = '') -> ConfigDict:
  """Returns the setting's configuration; `arg` is empty, 'stage1' or 'stage2'."""
  config = UHD4['get_config'](arg)
  config.data.tasks = ('low_light', 'haze', 'blur', 'rain', 'snow', 'noise50')
  config.data.task_weights = (1.0,) * 6
  config.evaluate.tasks = config.data.tasks
  return config
