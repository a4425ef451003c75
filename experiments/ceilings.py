"""What a latent could keep of photographs: untrained VAEs with a linear path, beside what a trained VAE keeps.

  python experiments/ceilings.py --photographs PHOTOGRAPHS -o experiments/results/ceilings.json [--checkpoint RUN]

PSNR RGB in dB of clean photographs after encoder and decoder alone, on the middle 1024 x 1024 pixels, averaged: of the
transform coder that a VAE with `vae.linear_path` starts as, by its latent channels (f = 8, where a cell of an image has
192 values), and of the VAE of a run.
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from diagnose import psnr
from lh_jax import evaluate
from lh_jax import exports
from lh_jax import networks as networks_lib
from lh_jax import results
from lh_jax import synthesis
from lh_jax.data import sources
from lh_jax.models import vae
import records

CHANNELS = (16, 32, 48, 64, 96)
SIDE = 1024


def untrained(channels: int) -> Callable[[jax.Array], jax.Array]:
  """Returns an untrained VAE as a function of images (B, H, W, 3) in [0, 1]: decode(mean of z)."""
  model = vae.build(preset='lh_fast', latent_channels=channels, linear_path=True)
  params = model.init(jax.random.key(0))
  return lambda images: model.decode(params['decoder'], model.encode(params['encoder'], images)[0])


def trained(checkpoint: pathlib.Path) -> Callable[[jax.Array], jax.Array]:
  """Returns the VAE of a work directory or export as such a function."""
  export = exports.load(checkpoint)
  networks = networks_lib.build(export.sections)
  return lambda images: networks.reconstruct(export.params, images)


def ceiling(reconstruct: Callable[[jax.Array], jax.Array], photographs: Sequence[np.ndarray]) -> float:
  """Returns the mean PSNR, in dB, of photographs (H, W, 3) uint8 after it."""
  compiled, found = jax.jit(reconstruct), []
  for image in photographs:
    made = np.clip(np.asarray(compiled(jnp.asarray(image[None], jnp.float32) / 255.0)[0]), 0.0, 1.0)
    found.append(psnr(np.round(made * 255.0).astype(np.uint8), image))
  return round(float(np.mean(found)), 2)


def main() -> None:
  """Writes and prints both."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--photographs', required=True, help='folder of photographs that the run was not trained on')
  parser.add_argument('--checkpoint', type=pathlib.Path, help='work directory or export; default: the bundled weights')
  parser.add_argument('-o', '--output', type=pathlib.Path, required=True)
  options = parser.parse_args()
  checkpoint = options.checkpoint or exports.BUNDLED
  source = sources.folder(options.photographs, cache_gib=0)
  photographs = [synthesis.crop(source[index]['clean'], (SIDE, SIDE)) for index in range(len(source))]
  report = records.made_by() | {'photographs': evaluate.listing(source)}
  report['untrained'] = [{'channels': count, 'psnr': ceiling(untrained(count), photographs)} for count in CHANNELS]
  report |= {'sha256': results.file_hash(exports.find(checkpoint) / 'params.safetensors')}
  report['trained'] = ceiling(trained(checkpoint), photographs)
  results.write_json(options.output, report, indent=1)
  print(*report['untrained'], report['trained'], sep='\n')


if __name__ == '__main__':
  main()
