"""Main Table 5a: what each part of the method contributes, by leaving it out.

  python experiments/table5a.py --scale=smoke
  python experiments/table5a.py --scale=paper --data=DATA

Variants of configs/ablations.py, average over the columns of Table 1. Paper's claim: each part raises PSNR and SSIM and
lowers LPIPS (PSNR and LPIPS are judged); L_Inv matters most (24.28 dB without it, 29.77 with everything). "w/o LoRA fine-tuning" is read here as:
no second half of stage 2. It may also mean fine-tuning of all weights in place of LoRA, which is not run.
"""

from __future__ import annotations

import runs
import scales
import tables
import trends

VARIANTS = ('full', 'no_invariance', 'no_equivariance', 'no_pdps', 'no_fhf', 'no_phf', 'no_lora')
STAGE1 = ('no_invariance', 'no_equivariance', 'no_pdps')  # what they leave out belongs to stage 1


def main(arguments: list[str] | None = None) -> None:
  """Trains the variants that are missing, measures them, and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  paper = {row['variant']: row for row in runs.published('table5a')['rows']}
  measured = {v: runs.evaluate(runs.restorer(runs.train(v, options)), runs.TASKS, options) for v in VARIANTS}
  rows = [
    {'variant': variant}
    | {f'{metric} paper': paper[variant][metric] for metric in tables.METRICS}
    | {f'{metric} ours': measured[variant][-1].get(f'{name}_restored') for metric, name in tables.METRICS.items()}
    | {'psnr VAE(clean)': measured[variant][-1]['psnr_y_ceiling']}
    for variant in VARIANTS
  ]
  full, *without = rows
  claims = []
  for row in without:
    variant = row['variant']
    few = scales.few_steps(options.scale, 'stage1.steps' if variant in STAGE1 else 'stage2.lora_steps')
    psnr, lpips = ({'full': full[name], variant: row[name]} for name in ('psnr ours', 'lpips ours'))
    worse = dict(reversed(lpips.items()))
    claims += [
      trends.higher(f'{variant}: less PSNR than the full method', 'psnr', psnr, why=few),
      trends.higher(f'{variant}: more LPIPS than the full method', 'lpips', worse, why=few),
    ]
  summary = {
    'item': 'Table 5a',
    'paper': tables.listing({row['variant']: row['psnr paper'] for row in rows}),
    'ours': tables.listing({row['variant']: row['psnr ours'] for row in rows}),
    'why': tables.why(options, claims),
  }
  result = {'rows': rows, 'measured': measured, 'trends': claims, 'summary': summary}
  result['not_run'] = '"w/o LoRA" read as fine-tuning of all weights'
  figure = tables.bars(rows, ('psnr paper', 'psnr ours', 'psnr VAE(clean)'), label='variant', axis='PSNR Y, dB')
  runs.write(options, 'table5a', result, figure)


if __name__ == '__main__':
  runs.run(main)
