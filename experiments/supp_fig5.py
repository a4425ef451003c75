"""Supp. Fig. 5: the latents of one degraded photograph as maps: VAE1, VAE2, + L_Inv, + L_Eqv, + HF-LoRA.

    python experiments/supp_fig5.py --scale=smoke

Each column adds one part of the method to VAE2: the semantic loss L_Inv, the equivariance loss L_Eqv, the encoder's
high-frequency branch (FHF-LoRA at full strength). Above the mean over the channels, below the first three principal
components of the channels as red, green and blue (sign and hue mean nothing). Over all held-out crops stand the share
of latent energy above half the Nyquist frequency (of the latent's own grid and of VAE1's, which is coarser, so that the
same frequencies of the image are compared), and how far the degradation moves the latent, relative to the spread
of the clean one: |z_degraded - z_clean| / |z_clean - its mean|.

Paper's claims (pictures only; Supp. D.2): VAE1 is overly smooth; VAE2 holds high frequencies, noise and degradation;
L_Inv lowers the interference of high-frequency noise; L_Eqv lowers the reliance on high frequencies; HF-LoRA brings
detail back.
"""

from __future__ import annotations

from typing import Mapping

from matplotlib.figure import Figure
import numpy as np
from sklearn import decomposition

import latents
import runs
import scales
import trained
import trends

# Variant and strength of the encoder's branch.
MODELS = {
  'VAE1': ('vae1', 0.0),
  'VAE2': ('vae2', 0.0),
  '+ L_Inv': ('no_equivariance', 0.0),
  '+ L_Eqv': ('full', 0.0),
  '+ HF-LoRA': ('full', 1.0),
}
TASK = 'noise25'
# What is claimed, the number that says so, whose is higher than whose, and which training may be too short for it.
CLAIMS = {
  ('VAE2 holds more high frequencies than VAE1', 'high_frequency_share_common', 'VAE2', 'VAE1'): 'stage1.steps',
  ('L_Inv lowers what noise does to the latent', 'displacement', 'VAE2', '+ L_Inv'): 'stage1.steps',
  ('L_Eqv lowers the share of high frequencies', 'high_frequency_share', '+ L_Inv', '+ L_Eqv'): 'stage1.steps',
  ('HF-LoRA raises the share of high frequencies', 'high_frequency_share', '+ HF-LoRA', '+ L_Eqv'): 'stage2.lora_steps',
}


def measure(degraded: np.ndarray, clean: np.ndarray, *, grid: tuple[int, int]) -> dict[str, float]:
  """High-frequency shares of the degraded latents, by themselves and on the coarsest grid of all models, and their
  distance from the clean ones; both (N, h, w, C).
  """
  spread = np.linalg.norm(clean - clean.mean(axis=(1, 2), keepdims=True))
  return {
    'high_frequency_share': latents.high_frequency_share(degraded),
    'high_frequency_share_common': latents.high_frequency_share(latents.on_grid(degraded, *grid)),
    'displacement': float(np.linalg.norm(degraded - clean) / max(spread, latents.EPS)),
  }


def maps(latent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The mean over channels (h, w) and the first three principal components (h, w, 3) of a latent, within [0, 1]."""
  rows = latent.reshape(-1, latent.shape[-1])
  components = decomposition.PCA(n_components=3).fit_transform(rows).reshape(*latent.shape[:2], 3)
  return latents.to_picture(latent.mean(axis=-1)), latents.to_picture(components)


def picture(image: np.ndarray, shown: Mapping[str, np.ndarray]) -> Figure:
  """The degraded crop, then a column per model."""
  figure = Figure(figsize=(2 * (1 + len(shown)), 4.3), layout='constrained')
  axes = figure.subplots(2, 1 + len(shown))
  axes[0, 0].imshow(image)
  axes[0, 0].set_title(f'input ({TASK})', fontsize=9)
  for column, (name, latent) in enumerate(shown.items(), start=1):
    mean, components = maps(latent)
    axes[0, column].imshow(mean, cmap='viridis', interpolation='nearest')
    axes[1, column].imshow(components, interpolation='nearest')
    axes[0, column].set_title(name, fontsize=9)
  for ax in axes.flat:
    ax.axis('off')
  return figure


def main(arguments: list[str] | None = None) -> None:
  """Encodes with every model and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  clean = trained.crops(options)
  degraded = trained.degraded(clean, options, tasks=(TASK,))[TASK]
  models, shown, grid = {}, {}, None
  for name, (variant, fhf) in MODELS.items():
    model = trained.load(variant, options, vae_only=not fhf)
    z = model.encode(degraded, fhf=fhf)
    grid = grid or z.shape[1:3]  # VAE1's
    models[name], shown[name] = measure(z, model.encode(clean, fhf=fhf), grid=grid), z[0]
  result = {'crops': len(clean), 'task': TASK, 'rows': [{'model': name} | found for name, found in models.items()]}
  claims = [
    trends.of_models(*claim, models, why=scales.few_steps(options.scale, steps)) for claim, steps in CLAIMS.items()
  ]
  result |= trained.verdicts('Supp. Fig. 5', claims, 'VAE1 smooth, VAE2 noisy, L_Inv calmer, HF-LoRA sharper')
  runs.write(options, 'supp_fig5', result, trained.rasterise(picture(degraded[0], shown)))


if __name__ == '__main__':
  runs.run(main)
