"""Degradations that training has not seen (Table 4, Supp. Table 4): the four-degradation model of configs/uhd4.py on
rain, snow, moire, and mixtures of what it has seen.

  python -m lh_jax.main --config=configs/generalization.py --workdir=runs/uhd4 --mode=evaluate

The model is trained by configs/uhd4.py or by this file, which differs in what is evaluated. The argument is as there.
"""

from pathlib import Path
import runpy

from ml_collections import ConfigDict

UHD4 = runpy.run_path(str(Path(__file__).with_name('uhd4.py')))


def get_config(arg: str = '') -> ConfigDict:
  """Returns the configuration; `arg` is empty, 'stage1' or 'stage2'."""
  config = UHD4['get_config'](arg)
  config.evaluate.tasks = ('rain', 'snow', 'moire', 'low_light+noise25', 'haze+low_light', 'noise25+blur')
  return config
