"""What latents of several sizes could keep of photographs: VAE(clean) of VAEs with a linear path, before any training.

  python experiments/ceilings.py --photographs PHOTOGRAPHS -o experiments/results/ceilings.json [--checkpoint RUN ...]

PSNR RGB in dB on the middle 1024 x 1024 pixels of each photograph, averaged: of the untrained transform coder that
`vae.linear_path=True` starts as, by its latent channels (f = 8, where an image has 192 values a cell); and of the VAEs of
the bundled weights and of other runs, clean photographs and two levels of noise at severity 0.5 put through encoder and
decoder alone.
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any, Sequence

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
from lh_jax.data.items import Source
from lh_jax.models import vae
import records

CHANNELS = (16, 32, 48, 64, 96)
SIDE, SEVERITY = 1024, 0.5
TASKS = ('noise15', 'noise25')


def untrained(images: Sequence[np.ndarray], channels: int) -> float:
  """Returns the mean PSNR, in dB, of images (H, W, 3) uint8 in the latent's mean and back."""
  model = vae.build(preset='lh_fast', latent_channels=channels, linear_path=True)
  params = model.init(jax.random.key(0))
  through = jax.jit(lambda image: model.decode(params['decoder'], model.encode(params['encoder'], image)[0]))
  return float(np.mean([psnr(_pixels(through, image), image) for image in images]))


def trained(checkpoint: pathlib.Path, photographs: Source) -> dict[str, Any]:
  """Returns the mean PSNR, in dB, of what a trained VAE makes of clean and of noisy photographs, without a restorer."""
  export = exports.load(checkpoint)
  networks = networks_lib.build(export.sections)
  through = jax.jit(lambda image: networks.reconstruct(export.params, image))
  found = {'checkpoint': checkpoint.name, 'sha256': results.file_hash(exports.find(checkpoint) / 'params.safetensors')}
  for task in ('clean', *TASKS):
    values = []
    for index, item in enumerate(photographs.items):
      image = clean = synthesis.crop(photographs[index]['clean'], (SIDE, SIDE))
      if task != 'clean':
        image = synthesis.synthesise(clean, name=item.name, task=task, severity=SEVERITY)
      values.append(psnr(_pixels(through, image), clean))
    found[task] = round(float(np.mean(values)), 2)
  return found


def _pixels(through: Any, image: np.ndarray) -> np.ndarray:
  made = through(jnp.asarray(image, jnp.float32)[None] / 255.0)[0]
  return np.round(np.clip(np.asarray(made), 0.0, 1.0) * 255.0).astype(np.uint8)


def main() -> None:
  """Writes and prints both."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--photographs', required=True, help='folder of photographs that no model was trained on')
  parser.add_argument('--checkpoint', type=pathlib.Path, nargs='*', default=[], help='work directories or exports')
  parser.add_argument('-o', '--output', type=pathlib.Path, required=True)
  options = parser.parse_args()
  photographs = sources.folder(options.photographs, cache_gib=0)
  images = [synthesis.crop(photographs[index]['clean'], (SIDE, SIDE)) for index in range(len(photographs))]
  report = records.made_by() | {'photographs': evaluate.listing(photographs), 'severity': SEVERITY}
  report['untrained'] = [{'channels': count, 'clean': round(untrained(images, count), 2)} for count in CHANNELS]
  report['trained'] = [trained(path, photographs) for path in (exports.BUNDLED, *options.checkpoint)]
  results.write_json(options.output, report, indent=1)
  for row in (*report['untrained'], *report['trained']):
    print(row)


if __name__ == '__main__':
  main()
