"""The paper's four-degradation setting (Table 1): low light, haze, blur, and noise at sigma 15, 25 and 50.

  python -m lh_jax.main --config=configs/uhd4.py --workdir=runs/uhd4 --config.data.path=DATA

DATA holds one folder per task: low_light/{input,gt}, haze/{input,gt}, blur/{input,gt}, noise/gt (its noise is drawn on
the fly). The argument picks the stage: configs/uhd4.py:stage1, :stage2 (then name the finished stage-1 run in
--config.train.init_from); without it both are trained. 64 000 + 32 000 steps, batches of 16 and 8 (Supp. B.2), on four
GPUs in the paper.
"""

from pathlib import Path
import runpy

from ml_collections import ConfigDict

BASE = runpy.run_path(str(Path(__file__).with_name('base.py')))


def get_config(arg: str = '') -> ConfigDict:
  """Returns the setting's configuration; `arg` is empty, 'stage1' or 'stage2'."""
  config = BASE['get_config']()
  if arg not in ('', *config.train.stages):
    raise ValueError(f'Unknown argument {arg!r} of configs/uhd4.py; known: {("", *config.train.stages)}.')
  config.data.source = 'pairs'
  config.data.tasks = ('low_light', 'haze', 'blur', 'noise15', 'noise25', 'noise50')
  # Each noise level once, the other tasks three times, as the authors' earlier code samples them.
  config.data.task_weights = (3.0, 3.0, 3.0, 1.0, 1.0, 1.0)
  config.evaluate.tasks = config.data.tasks
  if arg:
    config.train.stages = (arg,)
  return config
