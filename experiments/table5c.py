"""Main Table 5c: other restorers in the latent space.

  python experiments/table5c.py --scale=smoke
  python experiments/table5c.py --scale=paper --data=DATA

Runs every restorer that `lh_jax.models.restorers` has and says which of the paper's are missing. The paper's column on
pixels, the restorers' original sizes without the VAE, is not run. Paper's claim: through the latent each gains 5 dB
over itself on pixels, and the three come within 0.05 dB of each other (0.1 dB is asked of ours).
"""

from __future__ import annotations

from lh_jax.models import restorers
import runs
import scales
import tables


def main(arguments: list[str] | None = None) -> None:
  """Trains the models that are missing, measures them, and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  paper = {row['restorer']: row for row in runs.published('table5c')['rows']}
  default = runs.config('full', options).restorer.name
  rows, measured = [], {}
  for name in [*paper, *(name for name in restorers.RESTORERS if name not in paper)]:
    row = {'restorer': name, 'psnr pixels, paper': None, 'psnr latent, paper': None, 'psnr latent, ours': None}
    if name in paper:
      row |= {f'psnr {space}, paper': paper[name][f'psnr_{space}'] for space in ('pixels', 'latent')}
    if name in restorers.RESTORERS:
      variant = 'full' if name == default else f'restorer_{name}'
      measured[name] = runs.evaluate(runs.restorer(runs.train(variant, options)), runs.TASKS, options)
      row['psnr latent, ours'] = measured[name][-1]['psnr_y_restored']
    rows.append(row)
  missing = [name for name in paper if name not in restorers.RESTORERS]
  found = [averages[-1]['psnr_y_restored'] for averages in measured.values()]
  spread = max(found) - min(found) if len(found) > 1 else None
  # The claim is about the resolution itself.
  trends = [
    {
      'claim': 'the restorers come within 0.1 dB of each other',
      'metric': 'psnr_y',
      'values': {'spread': spread},
      'holds': None if spread is None else spread < 0.1,
      'why': 'one restorer' if spread is None else '' if spread < 0.1 else scales.few_steps(options.scale),
    }
  ]
  summary = {
    'item': 'Table 5c',
    'paper': tables.listing({name: row['psnr_latent'] for name, row in paper.items()}),
    'ours': tables.listing({name: found[-1]['psnr_y_restored'] for name, found in measured.items()}),
    'why': f'{", ".join(missing)} not in lh_jax yet; ' * bool(missing) + tables.why(options, trends),
  }
  result = {'rows': rows, 'measured': measured, 'missing': missing, 'trends': trends, 'summary': summary}
  result['status'] = f'{len(paper) - len(missing)} of {len(paper)} restorers'
  result['not_run'] = 'the restorers on pixels'
  series = ('psnr pixels, paper', 'psnr latent, paper', 'psnr latent, ours')
  runs.write(options, 'table5c', result, tables.bars(rows, series, label='restorer', axis='PSNR Y, dB'))


if __name__ == '__main__':
  runs.run(main)
