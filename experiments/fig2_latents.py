"""Fig. 2a to 2c: what the latents of VAE1, VAE2 and LH-VAE know of the image, and what of its degradation.

    python experiments/fig2_latents.py --scale=smoke

2a  t-SNE of the mean-pooled latents, coloured by degradation and by content. Next to the picture stand silhouettes in
    the pooled latent itself (t-SNE keeps no distances): high by content and low by degradation is what restoration
    wants.
2b  Cosine similarity between the latents of one image under different degradations (CDCS), as a whole and by radial
    DCT band. Beside it, that of different images: only the gap between the two says something, as a latent that
    ignores its image has a CDCS of 1.
2c  DCT spectra of the latents of clean images, and the share of energy above half the Nyquist frequency: of the
    latent's own grid, and of VAE1's grid, which is coarser, so that the same frequencies of the image are compared.

Paper's claims (its figure has curves, no numbers): VAE1 is more alike across degradations than VAE2 but lacks high
frequencies; VAE2 keeps them and, with them, the degradation; LH-VAE is more alike than VAE2.
"""

from __future__ import annotations

from typing import Any, Mapping

from matplotlib.figure import Figure
import numpy as np
from sklearn import manifold
from sklearn import metrics as sk_metrics

import latents
import runs
import scales
import trained
import trends

MODELS = {'VAE1': 'vae1', 'VAE2': 'vae2', 'LH-VAE': 'full'}
BANDS = 6
# What is claimed, the number that says so, and whose is higher than whose.
CLAIMS = (
  ('Latents of one image are more alike across degradations in LH-VAE than in VAE2', 'cdcs', 'LH-VAE', 'VAE2'),
  ('Latents of one image are more alike across degradations in VAE1 than in VAE2', 'cdcs', 'VAE1', 'VAE2'),
  ('LH-VAE tells content from degradation better than VAE2 (CDCS over different images)', 'cdcs_gap', 'LH-VAE', 'VAE2'),
  ('Degradations form clearer groups in VAE2 than in LH-VAE', 'silhouette_degradation', 'VAE2', 'LH-VAE'),
  ('VAE2 has a larger share of high frequencies than VAE1', 'high_frequency_share_common', 'VAE2', 'VAE1'),
  ('VAE2 has a larger share of high frequencies than LH-VAE', 'high_frequency_share', 'VAE2', 'LH-VAE'),
)


def measure(
  by_task: Mapping[str, np.ndarray], *, grid: tuple[int, int], one_photograph: bool, seed: int
) -> dict[str, Any]:
  """All numbers of one model.

  Args:
    by_task: {'clean' or degradation: latents (N, h, w, C) of the same images}.
    grid: the coarsest grid of all models.
    one_photograph: the images are crops of one: what needs different contents is None.
    seed: of t-SNE.

  Returns:
    Scalars 'cdcs', 'content_similarity', 'cdcs_gap', 'silhouette_degradation', 'silhouette_content',
    'high_frequency_share', 'high_frequency_share_common'; curves 'cdcs_bands', 'spectrum'; 'tsne' as rows of degradation, image, x, y.
  """
  tasks, count = list(by_task), len(by_task['clean'])
  points = np.concatenate([latents.pooled(z) for z in by_task.values()])
  task_of, image_of = np.repeat(np.arange(len(tasks)), count), np.tile(np.arange(count), len(tasks))
  # At most a third of the points, as t-SNE's authors advise; 30 is scikit-learn's default.
  embedding = manifold.TSNE(perplexity=min(30.0, len(points) / 3), init='pca', random_state=seed).fit_transform(points)
  degraded = {task: z for task, z in by_task.items() if task != 'clean'}
  cdcs, content = latents.cross_degradation_similarity(degraded), latents.content_similarity(by_task['clean'])
  return {
    'cdcs': cdcs,
    'content_similarity': content,
    'cdcs_gap': None if one_photograph else cdcs - content,
    'silhouette_degradation': float(sk_metrics.silhouette_score(points, task_of)),
    'silhouette_content': None if one_photograph else float(sk_metrics.silhouette_score(points, image_of)),
    'high_frequency_share': latents.high_frequency_share(by_task['clean']),
    'high_frequency_share_common': latents.high_frequency_share(latents.on_grid(by_task['clean'], *grid)),
    'cdcs_bands': or_none(latents.cross_degradation_bands(degraded, count=BANDS)),
    'spectrum': or_none(latents.spectrum(by_task['clean'], count=BANDS)),
    'tsne': [[tasks[t], int(i), *map(float, xy)] for t, i, xy in zip(task_of, image_of, embedding)],
  }


def or_none(values: np.ndarray) -> list[float | None]:
  """Returns a list for JSON, which knows no NaN: None is a band without coefficients."""
  return [None if np.isnan(value) else float(value) for value in values]


def picture(models: Mapping[str, Mapping[str, Any]]) -> Figure:
  """t-SNE by degradation and by image above, curves below."""
  figure = Figure(figsize=(3.2 * len(models), 8.5), layout='constrained')
  axes = figure.subplots(3, len(models))
  for column, (name, found) in enumerate(models.items()):
    for row, field in enumerate(('degradation', 'image')):
      labels = [point[row] for point in found['tsne']]
      for label in dict.fromkeys(labels):
        xy = np.array([point[2:] for point, other in zip(found['tsne'], labels) if other == label])
        axes[row, column].scatter(*xy.T, s=10, label=label)
      axes[row, column].set(title=f'{name} by {field}', xticks=[], yticks=[])
      axes[row, column].title.set_fontsize(9)
  axes[0, 0].legend(fontsize=5)
  for name, found in models.items():
    axes[2, 0].plot(latents.centres(BANDS), found['cdcs_bands'], marker='o', label=name)
    axes[2, 1].semilogy(latents.centres(BANDS), found['spectrum'], marker='o', label=name)
  axes[2, 0].set(title='CDCS by band', xlabel='frequency / Nyquist')
  axes[2, 1].set(title='DCT spectrum, clean', xlabel='frequency / Nyquist', ylabel='energy, white noise = 1')
  for shown, width in (('cdcs', 0.5), ('content_similarity', 0.25)):
    axes[2, 2].bar(list(models), [found[shown] for found in models.values()], width=width, label=shown)
  axes[2, 2].set_title('cosine similarity')
  axes[2, 2].legend(fontsize=6)
  axes[2, 0].legend(fontsize=7)
  return figure


def main(arguments: list[str] | None = None) -> None:
  """Measures the three VAEs and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  clean = trained.crops(options)
  images = {'clean': clean} | trained.degraded(clean, options)
  models = {}
  grid, one = None, trained.one_photograph(options)
  for name, variant in MODELS.items():
    model = trained.load(variant, options, vae_only=True)
    by_task = {task: model.encode(x) for task, x in images.items()}
    grid = grid or by_task['clean'].shape[1:3]  # VAE1's
    models[name] = measure(by_task, grid=grid, one_photograph=one, seed=options.seed)
  result = {'crops': len(clean), 'band_centres': latents.centres(BANDS).tolist(), 'models': models}
  reasons = {'why': scales.few_steps(options.scale, 'stage1.steps'), 'missing': 'all crops are of one photograph'}
  result |= trained.verdicts(
    'Fig. 2a to 2c',
    [trends.of_models(*claim, models, **reasons) for claim in CLAIMS],
    'LH-VAE alike across degradations as VAE1, with more high frequencies',
  )
  # Numbers of every model, the curves aside.
  result['rows'] = [
    {'model': name} | {field: value for field, value in found.items() if isinstance(value, float)}
    for name, found in models.items()
  ]
  runs.write(options, 'fig2_latents', result, picture(models))


if __name__ == '__main__':
  runs.run(main)
