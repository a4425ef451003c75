"""One degradation at a time (Supp. Table 2): low light, blur or haze, or any other of the benchmark's.

  python -m lh_jax.main --config=configs/single.py:low_light --workdir=runs/low_light --config.data.path=DATA

DATA is as for configs/uhd6.py; the argument is one of its tasks, or noise15 or noise25.
"""

from pathlib import Path
import runpy

from ml_collections import ConfigDict

BASE = runpy.run_path(str(Path(__file__).with_name('base.py')))


def get_config(arg: str = 'low_light') -> ConfigDict:
  """Returns the configuration for the task `arg`."""
  config = BASE['get_config']()
  if arg not in config.data.tasks:
    raise ValueError(f'Unknown argument {arg!r} of configs/single.py; known: {", ".join(config.data.tasks)}.')
  config.data.update({'source': 'pairs', 'tasks': (arg,), 'task_weights': (1.0,)})
  config.evaluate.tasks = (arg,)
  return config
