"""Main Table 1: one model for low light, haze, blur and noise at sigma 15, 25 and 50.

  python experiments/table1.py --scale=smoke
  python experiments/table1.py --scale=paper --data=DATA

Paper's claim: the best average of all methods, 29.70 dB (UHDprocesser 29.23). The average is over six columns, of which
three are noise. Beside each value stands VAE(clean), which no restoration through the latent can pass.
"""

from __future__ import annotations

import runs
import tables


def main(arguments: list[str] | None = None) -> None:
  """Trains the model where it is missing, measures it, and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  settings_table(options, 'table1', variant='full', item='Table 1', tasks=runs.TASKS)


def settings_table(options, name: str, *, variant: str, item: str, tasks: tuple[str, ...]) -> None:
  """Writes the table of one all-in-one setting.

  Args:
    options: of `runs.parser`.
    name: of the result, and of the paper's numbers.
    variant: the model.
    item: the table, for people.
    tasks: its columns.
  """
  paper = tables.of_method(runs.published(name)['rows'])
  measured = runs.evaluate(runs.restorer(runs.train(variant, options)), tasks, options)
  rows, trends = tables.beside(measured, paper), tables.improvements(measured)
  told = paper['average']
  summary = {
    'item': item,
    'paper': 'average ' + tables.number_line(told['psnr'], told['ssim'], told['lpips']),
    'ours': f'average {tables.headline(measured[-1])}, input {tables.headline(measured[-1], "input")}',
    'why': tables.why(options, trends),
  }
  result = {'rows': rows, 'measured': measured, 'trends': trends, 'summary': summary}
  runs.write(options, name, result, tables.bars(rows, tables.PSNR_BARS, label='task', axis='PSNR Y, dB'))


if __name__ == '__main__':
  runs.run(main)
