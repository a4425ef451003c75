"""Quick start: both stages on a few real photographs in minutes on two CPU cores, then a held-out photograph restored.

  python -m lh_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

Trains on the photographs that scikit-image carries; writes evaluation/table.md and evaluation/comparison.png in the
work directory. The argument `short` (--config=configs/quickstart.py:short) cuts the steps to a few, to see that
everything runs.
"""

from pathlib import Path
import runpy

from ml_collections import ConfigDict

BASE = runpy.run_path(str(Path(__file__).with_name('base.py')))


def get_config(arg: str = '') -> ConfigDict:
  """Returns the quick start's configuration; `arg` is empty or 'short'."""
  if arg not in ('', 'short'):
    raise ValueError(f"Unknown argument {arg!r} of configs/quickstart.py; known: '' and 'short'.")
  config = BASE['get_config']()
  config.foundation.name = 'vgg16'
  config.losses.equivariance_scales = (0.5,)
  # So few steps cannot learn the full range; mild weather and exposure, but every level of noise.
  config.data.update({'severity': (0.1, 0.5), 'task_weights': (1.0,) * 8})
  config.evaluate.severity = 0.3
  config.discriminator.features = 16
  config.stage1.update({'steps': 500, 'batch_size': 8, 'crop_size': 64, 'ema_decay': 0.98})
  config.stage2.update({'restorer_steps': 900, 'lora_steps': 40, 'batch_size': 8, 'crop_size': 64, 'ema_decay': 0.98})
  config.optim.stage1.update({'learning_rate': 2e-3, 'warmup_steps': 20})
  config.optim.restorer.update({'learning_rate': 2e-3, 'warmup_steps': 20})
  config.train.update({'log_steps': 20, 'image_steps': 100, 'checkpoint_steps': 100})
  config.evaluate.after_training = True
  if arg == 'short':
    config.stage1.steps = 4
    config.stage2.update({'restorer_steps': 2, 'lora_steps': 4, 'alternate_steps': 2})
    config.evaluate.tasks = ('noise25',)
  return config
