"""Supp. Table 2: one model for each of low light, blur and haze.

  python experiments/supp_table2.py --scale=smoke
  python experiments/supp_table2.py --scale=paper --data=DATA

Paper's claim: the best of all methods for each, and better than the all-in-one model of Table 1 (low light 27.47
against 27.32, blur 28.96 against 26.98, haze 23.62 against 21.21 dB).
"""

from __future__ import annotations

import runs
import scales
import tables
import trends

TASKS = ('low_light', 'blur', 'haze')


def main(arguments: list[str] | None = None) -> None:
  """Trains the models that are missing, measures them, and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  published = runs.published('supp_table2')['rows']
  paper = tables.of_method(published)
  everything = runs.restorer(runs.train('full', options))
  together = {row['task']: row for row in runs.evaluate(everything, TASKS, options)}
  measured = [
    runs.evaluate(runs.restorer(runs.train(f'single:{task}', options)), (task,), options)[0] for task in TASKS
  ]
  rows = [row | {'psnr all-in-one': together[row['task']]['psnr_y_restored']} for row in tables.beside(measured, paper)]
  few = scales.few_steps(options.scale, 'stage1.steps', 'stage2.restorer_steps')
  claims = tables.improvements(options, measured) + [
    trends.higher(
      f'{row["task"]}: its own model beats all-in-one',
      'psnr_y',
      {'its own': row['psnr restored'], 'all-in-one': row['psnr all-in-one']},
      why=few,
    )
    for row in rows
  ]
  summary = {
    'item': 'Supp. Table 2',
    'paper': tables.listing({task: paper[task]['psnr'] for task in TASKS}),
    'ours': tables.listing({row['task']: row['psnr restored'] for row in rows}),
    'why': tables.why(options, claims),
  }
  result = {'rows': rows, 'measured': measured, 'trends': claims, 'summary': summary, 'published': published}
  series = (*tables.PSNR_BARS, 'psnr all-in-one')
  runs.write(options, 'supp_table2', result, tables.bars(rows, series, label='task', axis='PSNR Y, dB'))


if __name__ == '__main__':
  runs.run(main)
