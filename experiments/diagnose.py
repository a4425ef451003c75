"""Why a trained model is not better: does it depend on the size of the image, and which loss steers its encoder?

  python experiments/diagnose.py RUN -o experiments/results/diagnosis.json

On the embedded test photograph, squares of several sizes: PSNR RGB of what comes back of a clean one and of degraded
ones, beside VAE(clean), and the means in levels. And the global norms of the gradients of stage 1's weighted terms, in
encoder and decoder, over a few batches at the last checkpoint of RUN (of its embedded photographs).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import optax

import lh_jax
from lh_jax import networks as networks_lib
from lh_jax import losses as losses_lib
from lh_jax import optim
from lh_jax import parallel
from lh_jax import results
from lh_jax import synthesis
from lh_jax import train
from lh_jax.data import sources
from lh_jax.metrics import similarity
from lh_jax.stages import build
from lh_jax.stages import pdps
from lh_jax.stages import stage1
from lh_jax.state import stream_key
import records

SIDES = (64, 128, 256, 296)
TASKS = ('clean', 'noise25', 'low_light')
BATCHES = 4


def sizes(run: pathlib.Path) -> list[dict[str, Any]]:
  """Returns one row for each task and side."""
  restorer, rows = lh_jax.Restorer.from_pretrained(run), []
  (item,) = sources.embedded(split='test')
  for task in TASKS:
    degraded = item['clean']
    if task != 'clean':
      degraded = synthesis.synthesise(item['clean'], name=item['name'], task=task, severity=0.5)
    for side in SIDES:
      clean, cut = item['clean'][:side, 100 : 100 + side], degraded[:side, 100 : 100 + side]
      restored, ceiling = restorer.restore(cut), restorer.reconstruct(clean)
      row = {'task': task, 'side': side, 'ceiling': psnr(ceiling, clean), 'restored': psnr(restored, clean)}
      if task != 'clean':
        row['input'] = psnr(cut, clean)
      rows.append(
        row | {'mean_restored': round(float(restored.mean()), 1), 'mean_clean': round(float(clean.mean()), 1)}
      )
  return rows


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
  """Returns PSNR of RGB in dB of two uint8 images (H, W, 3), to two digits."""
  pair = (jnp.asarray(array, jnp.float32)[None] for array in (image, clean))
  return round(float(similarity.psnr(*pair, max_value=255.0)[0]), 2)


def gradients(run: pathlib.Path) -> list[dict[str, dict[str, float]]]:
  """Returns, for each batch, {term: {'encoder', 'decoder'}} of the terms with their weights, at the end of stage 1."""
  config = ConfigDict(json.loads((run / 'config.json').read_text(encoding='utf-8')))
  config.data.update({'source': 'embedded', 'device_gib': 0.0})
  config.train.stages = ('stage1',)
  last = config.stage1.steps
  config.stage1.steps = 2 * last  # Or the run would have nothing to do.
  with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder)
    shutil.copytree(run / 'checkpoints' / 'stage1', copy / 'checkpoints' / 'stage1')
    found = train.Run(config, copy)
    (stage,) = found.unfinished
    shapes = jax.eval_shape(stage.init, jax.random.key(0))
    abstract = parallel.abstract_like(shapes, parallel.state_shardings(found.mesh, shapes))
    with found._checkpoints(stage) as checkpoints:
      params = checkpoints.restore(last, abstract).params
  losses = losses_lib.LossSettings(**config.losses)
  definition = stage1.Stage1(
    **config.stage1,
    seed=0,
    networks=networks_lib.build(found.sections),
    foundation=build.foundation(config, 'stage1'),
    optimizer=optim.Optimizer(**config.optim.stage1, first_step=0, last_step=last),
    pdps=pdps.PDPS(**config.pdps),
    losses=losses,
  )
  weights = {'reconstruction': 1.0, 'equivariance': losses.equivariance, 'invariance': losses.invariance}
  frozen, scale = (
    {'foundation': found.foundation},
    sorted(losses.equivariance_scales)[len(losses.equivariance_scales) // 2],
  )

  @jax.jit
  def norms(params: Any, batch: Any, key: jax.Array) -> Any:
    perturbed = pdps.perturb(key, batch['clean'], batch['degraded'], 1.0, definition.pdps)

    def term(params: Any, name: str) -> jax.Array:
      return weights[name] * definition.loss(params, frozen, batch['clean'], perturbed, key, scale=scale)[1][0][name]

    return {
      name: {part: optax.global_norm(grad) for part, grad in jax.grad(term)(params, name)['vae'].items()}
      for name in weights
    }

  (stretch,) = stage.stretches_from(last)
  rows, prepare = [], jax.jit(found.prepare(stage, stretch))
  with found.batches(stage, stretch) as batches:
    for index in range(BATCHES):
      batch = prepare(parallel.put_batch(next(batches), found.mesh), jnp.int32(index))
      rows.append(jax.tree.map(lambda x: round(float(x), 4), norms(params, batch, stream_key(0, 'diagnose', index))))
  return rows


def main() -> None:
  """Writes and prints both."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('run', type=pathlib.Path, help='work directory of a finished run')
  parser.add_argument('-o', '--output', type=pathlib.Path, required=True)
  options = parser.parse_args()
  report = records.made_by() | {'sizes': sizes(options.run), 'gradients': gradients(options.run)}
  results.write_json(options.output, report, indent=1)
  for row in (*report['sizes'], *report['gradients']):
    print(row)


if __name__ == '__main__':
  main()
