"""Main Table 5d: alpha, from perceptual to faithful.

  python experiments/table5d.py --scale=smoke
  python experiments/table5d.py --scale=paper --data=DATA

One model, restored at several alphas, average over the columns of Table 1. Paper's claim: from 0.2 to 0.8, PSNR rises
from 28.94 to 29.74 dB and LPIPS from .2218 to .2904. LPIPS needs its weights: python -m lh_jax.convert lpips_alex.
"""

from __future__ import annotations

from matplotlib.figure import Figure

import runs
import scales
import tables
import trends

ALPHAS = (0.2, 0.4, 0.6, 0.8)


def main(arguments: list[str] | None = None) -> None:
  """Trains the model where it is missing, measures it, and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  paper = {row['alpha']: row for row in runs.published('table5d')['rows']}
  model = runs.restorer(runs.train('full', options))
  measured = {alpha: runs.evaluate(model, runs.TASKS, options, alpha=alpha) for alpha in ALPHAS}
  rows = []
  for alpha in ALPHAS:
    row = {'alpha': alpha} | {f'{metric} paper': paper.get(alpha, {}).get(metric) for metric in ('psnr', 'lpips')}
    average = measured[alpha][-1]
    rows.append(row | {f'{m} ours': average.get(f'{name}_restored') for m, name in tables.METRICS.items()})
  low, high = rows[0], rows[-1]
  few = scales.few_steps(options.scale, 'stage2.lora_steps')
  claims = [
    trends.higher(
      f'{title} rises from alpha 0.2 to 0.8',
      metric,
      {f'alpha {row["alpha"]}': row[f'{metric} ours'] for row in (high, low)},
      why=few,
    )
    for metric, title in (('psnr', 'PSNR'), ('lpips', 'LPIPS'))
  ]
  lines = {
    who: f'PSNR {low[f"psnr {who}"]:.2f} to {high[f"psnr {who}"]:.2f}'
    + (f', LPIPS {low[f"lpips {who}"]:.4f} to {high[f"lpips {who}"]:.4f}' if low[f'lpips {who}'] is not None else '')
    for who in ('paper', 'ours')
  }
  summary = {'item': 'Table 5d', **lines, 'why': tables.why(options, claims)}
  result = {'rows': rows, 'measured': {str(a): found for a, found in measured.items()}, 'trends': claims}
  runs.write(options, 'table5d', result | {'summary': summary}, picture(rows))


def picture(rows: list[dict]) -> Figure:
  """The curves of both metrics over alpha."""
  figure = Figure(figsize=(6.4, 2.8), layout='constrained')
  for axes, metric, title in zip(figure.subplots(1, 2), ('psnr', 'lpips'), ('PSNR Y, dB', 'LPIPS')):
    for who in ('paper', 'ours'):
      told = [(row['alpha'], row[f'{metric} {who}']) for row in rows if row[f'{metric} {who}'] is not None]
      if told:
        axes.plot(*zip(*told), marker='o', label=who)
        axes.legend(fontsize=7)
    axes.set(xlabel='alpha', ylabel=title)
  return figure


if __name__ == '__main__':
  runs.run(main)
