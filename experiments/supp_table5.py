"""Supp. Table 5: other foundation models in L_Inv.

  python experiments/supp_table5.py --scale=smoke
  python experiments/supp_table5.py --scale=paper --data=DATA

Runs the models that `lh_jax.models.foundation` has and whose converted weights are at hand, and says which are not.
VGG16 is ours, not the paper's: its weights come in a package. Paper's claim: any of five models helps about as much
(29.57 to 29.70 dB; 24.28 without L_Inv, Table 5a).
"""

from __future__ import annotations

from lh_jax import weight_files
import runs
import scales
import tables
import trends

# The paper's name of a model, and its name here. The paper does not say which sizes it took: base ones, but for DINOv2.
MODELS = {
  'DINOv2': 'dinov2_vits14',
  'MAE': 'mae_vitb16',
  'SAM': 'sam_vitb16',
  'CLIP': 'clip_vitb16',
  'SigLIP': 'siglip_vitb16',
  'VGG16': 'vgg16',
}
DRY = {'a tiny VGG': 'tiny_vgg', 'a tiny ViT': 'tiny_vit'}


def main(arguments: list[str] | None = None) -> None:
  """Trains the models that are missing, measures them, and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  paper = {row['foundation']: row for row in runs.published('supp_table5')['rows']}
  default = runs.config('full', options).foundation.name
  measured, rows = {}, []
  for title, name in (DRY if options.scale == 'dry' else MODELS).items():
    row = {'foundation': title} | {f'{metric} paper': paper.get(title, {}).get(metric) for metric in ('psnr', 'ssim')}
    row |= {'psnr ours': None, 'ssim ours': None, 'status': status(name)}
    if row['status'] == 'run':
      variant = 'full' if name == default else f'foundation_{name}'
      measured[title] = runs.evaluate(runs.restorer(runs.train(variant, options)), runs.TASKS, options)
      row |= {f'{metric} ours': measured[title][-1][f'{metric}_y_restored'] for metric in ('psnr', 'ssim')}
    rows.append(row)
  without = runs.evaluate(runs.restorer(runs.train('no_invariance', options)), runs.TASKS, options)[-1]
  claims = [
    trends.higher(
      f'{title}: more PSNR than without L_Inv',
      'psnr_y',
      {name: average['psnr_y_restored'] for name, average in ((title, found[-1]), ('none', without))},
      why=scales.few_steps(options.scale, 'stage1.steps'),
    )
    for title, found in measured.items()
  ]
  skipped = [row['foundation'] for row in rows if row['status'] != 'run']
  rows.append({'foundation': 'none', 'psnr ours': without['psnr_y_restored'], 'ssim ours': without['ssim_y_restored']})
  summary = {
    'item': 'Supp. Table 5',
    'paper': tables.listing({name: row['psnr'] for name, row in paper.items()}),
    'ours': tables.listing({row['foundation']: row['psnr ours'] for row in rows if row['psnr ours'] is not None}),
    'why': f'not run: {", ".join(skipped)}; ' * bool(skipped) + tables.why(options, claims),
  }
  result = {'rows': rows, 'measured': measured, 'trends': claims, 'summary': summary}
  result['status'] = f"{len(paper.keys() & measured.keys())} of {len(paper)} of the paper's foundation models"
  figure = tables.bars(rows, ('psnr paper', 'psnr ours'), label='foundation', axis='PSNR Y, dB')
  runs.write(options, 'supp_table5', result, figure)


def status(name: str | None) -> str:
  """Returns 'run', or why a model is not."""
  if name is None:
    return 'not in lh_jax yet'
  if not name.startswith('tiny_') and not weight_files.default_path(name).is_file():
    return f'no weights: python -m lh_jax.convert {name}'
  return 'run'


if __name__ == '__main__':
  runs.run(main)
