"""Supp. Fig. 6: reconstruction by the VAE when the top DCT frequencies of its latent are cut, with and without L_Eqv.

    python experiments/supp_fig6.py --scale=smoke

Clean held-out crops are encoded, the given share of the DCT coefficients of the latent, highest radial frequencies
first, is set to zero (`latents.low_pass`), and what the decoder makes of the rest is compared with the crop.

Paper's claim (curves, no numbers; Supp. D.3): quality falls as more is cut off, and more slowly with L_Eqv.
"""

from __future__ import annotations

from typing import Mapping

from matplotlib.figure import Figure
import numpy as np

import latents
import runs
import scales
import trained
import trends

RATIOS = tuple(round(0.1 * i, 1) for i in range(10))
MODELS = {'with L_Eqv': 'full', 'without L_Eqv': 'no_equivariance'}


def curve(model: trained.Trained, clean: np.ndarray) -> list[float]:
  """PSNR in dB of the reconstruction at each cut-off ratio, averaged over the crops."""
  z = model.encode(clean)
  return [trained.score(model.decode(latents.low_pass(z, ratio=ratio)), clean)['psnr_y'] for ratio in RATIOS]


def picture(curves: Mapping[str, list[float]]) -> Figure:
  """PSNR and its loss over the cut-off ratio."""
  figure = Figure(figsize=(8, 3), layout='constrained')
  left, right = figure.subplots(1, 2)
  for name, values in curves.items():
    left.plot(RATIOS, values, marker='o', label=name)
    right.plot(RATIOS, np.array(values) - values[0], marker='o', label=name)
  left.set(title='reconstruction', xlabel='share of frequencies cut off', ylabel='PSNR, dB')
  right.set(title='change', xlabel='share of frequencies cut off', ylabel='dB')
  left.legend()
  return figure


def main(arguments: list[str] | None = None) -> None:
  """Measures both curves and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  clean = trained.crops(options)
  curves = {name: curve(trained.load(variant, options, vae_only=True), clean) for name, variant in MODELS.items()}
  models = {
    name: {'psnr': values[0], 'psnr_change': float(np.mean(values[1:]) - values[0]), 'psnr_last': values[-1]}
    for name, values in curves.items()
  }
  few = scales.few_steps(options.scale, 'stage1.steps') + ', L_Eqv at one scale' * (options.scale != 'paper')
  claims = [
    trends.of_models('Averaged over the cut-offs, PSNR falls less with L_Eqv', 'psnr_change', *MODELS, models, why=few),
    trends.of_models('At the strongest cut-off, PSNR is higher with L_Eqv', 'psnr_last', *MODELS, models, why=few),
  ]
  result = {'crops': len(clean), 'ratios': RATIOS, 'psnr': curves}
  result |= trained.verdicts('Supp. Fig. 6', claims, 'PSNR falls more slowly with L_Eqv')
  result['rows'] = [{'model': name} | found for name, found in models.items()]
  runs.write(options, 'supp_fig6', result, picture(curves))


if __name__ == '__main__':
  runs.run(main)
