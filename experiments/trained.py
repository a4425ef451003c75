"""What the figures share: trained variants opened up to their latents, the held-out crops, and verdicts on trends.

Contract: images are (N, H, W, 3) uint8, latents float32 (N, h, w, C), normalised per channel as the restorer sees them
(`lh_jax.networks`), so that offset and scale of a channel weigh the same in every VAE.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
from typing import Any, Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
from matplotlib import figure as figure_lib
from matplotlib.backends import backend_agg
import numpy as np

from lh_jax import exports
from lh_jax import networks as networks_lib
from lh_jax import results
import runs
import trends

# Side of a crop in pixels (a multiple of VAE1's f = 32) and number of crops.
CROPS = {'dry': (64, 2), 'smoke': (224, 4), 'paper': (512, 200)}
BATCH = 8


@dataclasses.dataclass(frozen=True)
class Trained:
  """A trained variant.

  Attributes:
    networks: its networks.
    params: its whole parameters.
  """

  networks: networks_lib.Networks
  params: Any

  def encode(self, images: np.ndarray, *, fhf: float = 0.0) -> np.ndarray:
    """Returns normalised latents; `fhf` is the strength of the encoder's branch, 0 the VAE of stage 1."""
    if not fhf:
      return self._in_batches(_encode, images)
    encoder = self.networks.adapt(self.params['vae']['encoder'], self.params['encoder_lora'], fhf)
    adapted = self.params | {'vae': self.params['vae'] | {'encoder': encoder}}
    return Trained(self.networks, adapted).encode(images)

  def decode(self, latents: np.ndarray) -> np.ndarray:
    """Returns the images (N, H, W, 3) uint8 of normalised latents, by the VAE of stage 1."""
    return self._in_batches(_decode, latents)

  def restore(self, images: np.ndarray, *, alpha: float) -> np.ndarray:
    """Returns the restored images (N, H, W, 3) uint8 at fidelity alpha."""
    return self._in_batches(_restore, images, alpha)

  def _in_batches(self, function: Callable, arrays: np.ndarray, *values: float) -> np.ndarray:
    values = [np.float32(value) for value in values]
    parts = [arrays[i : i + BATCH] for i in range(0, len(arrays), BATCH)]
    return np.concatenate([np.asarray(function(self.networks, self.params, part, *values)) for part in parts])


@functools.partial(jax.jit, static_argnums=0)
def _encode(networks: networks_lib.Networks, params: Any, images: jax.Array) -> jax.Array:
  return networks.encode(params['vae']['encoder'], params['latent'], images.astype(jnp.float32) / 255.0)


@functools.partial(jax.jit, static_argnums=0)
def _decode(networks: networks_lib.Networks, params: Any, latents: jax.Array) -> jax.Array:
  return _to_uint8(networks.decode(params['vae']['decoder'], params['latent'], latents.astype(jnp.float32)))


@functools.partial(jax.jit, static_argnums=0)
def _restore(networks: networks_lib.Networks, params: Any, images: jax.Array, alpha: jax.Array) -> jax.Array:
  return _to_uint8(networks.restore(params, images.astype(jnp.float32) / 255.0, alpha))


def _to_uint8(images: jax.Array) -> jax.Array:
  return jnp.floor(jnp.clip(images, 0.0, 1.0) * 255.0 + 0.5).astype(jnp.uint8)


def load(variant: str, options: argparse.Namespace, *, vae_only: bool = False) -> Trained:
  """Trains a variant, or finds it trained, and opens it.

  Args:
    variant: as for `runs.config`.
    options: of `runs.parser`.
    vae_only: stop after stage 1; the parameters then have neither restorer nor branches.
  """
  export = exports.load((runs.stage1 if vae_only else runs.train)(variant, options))
  return Trained(networks_lib.build(export.sections), export.params)


def crops(options: argparse.Namespace, *, count: int | None = None) -> np.ndarray:
  """Returns clean held-out crops, (N, side, side, 3) uint8, spread evenly over the test images and over each of them.

  Args:
    options: of `runs.parser`.
    count: how many; None for those of the scale.

  Raises:
    ValueError: an image is smaller than a crop, or there would be no crop.
  """
  side, usual = CROPS[options.scale]
  count = usual if count is None else count
  if count < 1:
    raise ValueError(f'At least 1 crop is needed, got {count}.')
  images = runs.test_images(options)
  found = []
  for index, (name, image) in enumerate(images):
    if min(image.shape[:2]) < side:
      raise ValueError(f'{name} has {image.shape[1]}x{image.shape[0]} pixels, crops need {side}x{side}: leave it out.')
    share = count * (index + 1) // len(images) - count * index // len(images)
    found += [image[y : y + side, x : x + side] for y, x in places(image.shape[:2], side=side, count=share)]
  return np.stack(found)


def places(size: tuple[int, int], *, side: int, count: int) -> Iterator[tuple[int, int]]:
  """Yields the upper left corners of `count` crops in the cells of an even grid over (height, width)."""
  if not count:
    return
  rows = min(range(1, count + 1), key=lambda n: abs(math.log(size[0] / n * math.ceil(count / n) / size[1])))
  columns = math.ceil(count / rows)
  for index in range(count):
    cell = divmod(index, columns)
    yield tuple(round((length - side) * (i + 0.5) / n) for length, i, n in zip(size, cell, (rows, columns)))


def degraded(
  clean: np.ndarray, options: argparse.Namespace, *, tasks: Sequence[str] = runs.TASKS
) -> dict[str, np.ndarray]:
  """Returns {task: degraded crops}: the same crops under every task, synthesised at every scale, as no real data set
  has them.
  """
  return {
    task: np.stack([runs.synthesise(crop, name=f'crop{i}', task=task, options=options) for i, crop in enumerate(clean)])
    for task in tasks
  }


def score(restored: np.ndarray, clean: np.ndarray) -> dict[str, float]:
  """Returns the mean over the images of every metric that `runs.score` computes here."""
  return results.mean([runs.score(a, b) for a, b in zip(restored, clean, strict=True)])


def restoration(
  model: Trained, images: Mapping[str, np.ndarray], clean: np.ndarray, *, alpha: float = 0.5
) -> dict[str, float]:
  """Returns the metrics of the restored crops, averaged over the crops and then over the tasks."""
  return results.mean([score(model.restore(degraded, alpha=alpha), clean) for degraded in images.values()])


def verdicts(item: str, claims: Sequence[Mapping[str, Any]], paper: str) -> dict[str, Any]:
  """What a figure's result says about the paper's trends, and the figure's row in README.md.

  Args:
    item: the figure, for people.
    claims: its trends, as in the module of that name.
    paper: the paper's claim in few words.
  """
  told = trends.count(claims)
  row = {'item': item, 'paper': paper, 'ours': f'trends: {told}', 'why': trends.why(claims)}
  return {'trends': list(claims), 'trends_that_hold': told, 'summary': row}


def one_photograph(options: argparse.Namespace) -> bool:
  """Whether all crops are of one photograph, so that nothing can be said about different contents."""
  return options.scale != 'paper' and (not options.photos or len(runs.test_images(options)) == 1)


def rasterise(figure: figure_lib.Figure) -> np.ndarray:
  """Draws a figure of photographs, which a JPEG file holds in far fewer bytes, as (H, W, 3) uint8."""
  figure.set_dpi(80)
  canvas = backend_agg.FigureCanvasAgg(figure)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
