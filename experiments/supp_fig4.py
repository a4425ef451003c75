"""Supp. Fig. 4: held-out photographs restored at several alphas, from the perceptual (0) to the faithful (1) end.

    python experiments/supp_fig4.py --scale=smoke

One row per degradation: input, alphas, clean. Under it the change against alpha = 0, amplified, as short trainings move
little. Beside the picture stand PSNR and LPIPS of every alpha, averaged over degradations and all held-out crops; the
full sweep of Table 5d is in table5d.py.

Paper's claim (Supp. D.1): higher alpha, more fidelity (Table 5d: PSNR 28.94 at 0.2, 29.74 at 0.8); lower alpha, better
perception (LPIPS .2218 at 0.2, .2904 at 0.8).
"""

from __future__ import annotations

from typing import Mapping

from matplotlib.figure import Figure
import numpy as np

import runs
import scales
import trained
import trends

ALPHAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
ROWS = 3  # degradations in the picture
GAIN = 10.0


def picture(images: Mapping[str, np.ndarray], restored: Mapping[str, np.ndarray], clean: np.ndarray) -> Figure:
  """The grid.

  Args:
    images: {degradation: (H, W, 3) input}.
    restored: {degradation: (alphas, H, W, 3)}.
    clean: (H, W, 3).
  """
  columns = 2 + len(ALPHAS)
  figure = Figure(figsize=(1.3 * columns, 2.8 * len(images)), layout='constrained')
  axes = figure.subplots(2 * len(images), columns)
  for ax in axes.flat:
    ax.axis('off')
  for row, (task, image) in enumerate(images.items()):
    upper, lower = axes[2 * row], axes[2 * row + 1]
    titles = [task, *(f'alpha {alpha}' for alpha in ALPHAS), 'clean']
    for ax, title, shown in zip(upper, titles, [image, *restored[task], clean]):
      ax.imshow(shown)
      ax.set_title(title, fontsize=7)
    for ax, shown in zip(lower[1:], restored[task]):
      ax.imshow(np.clip(0.5 + GAIN * (shown.astype(float) - restored[task][0]) / 255.0, 0.0, 1.0))
    lower[1].set_title(f'change x {GAIN:g}', fontsize=7)
  return figure


def main(arguments: list[str] | None = None) -> None:
  """Sweeps alpha and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  clean = trained.crops(options)
  images = trained.degraded(clean, options)
  model = trained.load('full', options)
  scores = {str(alpha): trained.restoration(model, images, clean, alpha=alpha) for alpha in ALPHAS}
  shown = {task: images[task][0] for task in list(images)[:ROWS]}
  restored = {
    task: np.concatenate([model.restore(image[None], alpha=alpha) for alpha in ALPHAS]) for task, image in shown.items()
  }
  few = scales.few_steps(options.scale, 'stage2.lora_steps')
  claims = [
    trends.of_models('PSNR is higher at the faithful end', 'psnr_y', '1.0', '0.0', scores, why=few),
    trends.of_models('LPIPS is higher (worse) at the faithful end', 'lpips_alex', '1.0', '0.0', scores, why=few),
  ]
  result = {'crops': len(clean), 'tasks': list(images)}
  result |= trained.verdicts('Supp. Fig. 4', claims, 'higher alpha: fidelity; lower alpha: perception')
  result['rows'] = [{'alpha': alpha} | found for alpha, found in scores.items()]
  runs.write(options, 'supp_fig4', result, trained.rasterise(picture(shown, restored, clean[0])))


if __name__ == '__main__':
  runs.run(main)
