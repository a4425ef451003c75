"""Main Table 2: one model for low light, haze, blur, rain, snow and noise at sigma 50.

  python experiments/table2.py --scale=smoke
  python experiments/table2.py --scale=paper --data=DATA

Paper's claim: the best average of all methods, 29.24 dB (UHDprocesser 28.67).
"""

from __future__ import annotations

import runs
import table1

TASKS = ('low_light', 'haze', 'blur', 'rain', 'snow', 'noise50')


def main(arguments: list[str] | None = None) -> None:
  """Trains the model where it is missing, measures it, and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  table1.settings_table(options, 'table2', variant='uhd6', item='Table 2', tasks=TASKS)


if __name__ == '__main__':
  runs.run(main)
