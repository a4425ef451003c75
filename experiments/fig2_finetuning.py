"""Fig. 2d and 2e: what to train the VAE with in stage 2, and what the two LoRA branches are good for.

    python experiments/fig2_finetuning.py --scale=smoke

2d  The trained restorer is fine-tuned three ways from one start, on the same batches, at one constant rate: the VAE
    frozen; its encoder trained with the restorer by L_Res (Eq. 7); its encoder trained by the L1 of high
    frequencies (Eq. 8, which trains the encoder) while L_Res trains the restorer alone. Full weights, no LoRA; the
    decoder stays, as nothing in Eq. 8 holds the low frequencies of what it makes. Curves are the PSNR of restored
    held-out crops, and of VAE(clean): where that falls, the encoder has left what the decoder was trained on.
2e  Bars: the model of stage 2a, with FHF-LoRA alone (alpha = 1) and with PHF-LoRA alone (alpha = 0).

Paper's claims (curves and bars, no numbers): training the VAE with the high-frequency loss restores best; FHF serves
fidelity (PSNR), PHF perception (LPIPS).
"""

from __future__ import annotations

import argparse
from typing import Any, Callable, Mapping, Sequence

import jax
from matplotlib.figure import Figure
import numpy as np

from lh_jax import losses as losses_lib
from lh_jax import networks as networks_lib
from lh_jax import optim
from lh_jax import parallel
from lh_jax import train
from lh_jax.ops import frequency
import runs
import scales
import trained
import trends

MODES = {'frozen': 'VAE frozen', 'l_res': 'encoder by L_Res', 'hf': 'encoder by HF loss'}
RATE = 0.2  # of that of stage 2's branches, as all weights move here
# Steps of fine-tuning, and how often the held-out crops are restored.
STEPS = {'dry': (2, 1), 'smoke': (40, 10), 'paper': (8_000, 500)}


def make_step(networks: networks_lib.Networks, optimizer: optim.Optimizer, mode: str, *, cutoff: float) -> Callable:
  """Returns the step function of one way of fine-tuning.

  Args:
    networks: the model.
    optimizer: for everything that is trained.
    mode: a name in `MODES`.
    cutoff: of the high-pass filter, as a fraction of the Nyquist frequency.

  Returns:
    step(params, opt, stats, latent, batch, step) -> (params, opt, stats, loss); params are {'restorer', 'vae'}.
  """

  def forward(restorer: Any, vae: Any, stats: Any, latent: Any, degraded: jax.Array) -> tuple[jax.Array, Any]:
    z = networks.encode(vae['encoder'], latent, degraded)
    variables = {'params': restorer, 'batch_stats': stats}
    z, new = networks.restorer.apply(variables, z, train=True, mutable=['batch_stats'])
    return networks.decode(vae['decoder'], latent, z), new.get('batch_stats', {})

  def loss_of(params: Any, stats: Any, latent: Any, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, Any]:
    held = jax.lax.stop_gradient(params)
    tuned = held['vae'] | {'encoder': params['vae']['encoder']}
    vae = tuned if mode == 'l_res' else held['vae']
    output, new = forward(params['restorer'], vae, stats, latent, batch['degraded'])
    restoration = losses_lib.l1(output, batch['clean'])
    total = restoration
    if mode == 'hf':
      # The same numbers once more, with the gradient flowing into the encoder alone.
      output, _ = forward(held['restorer'], tuned, stats, latent, batch['degraded'])
      detail = frequency.high_pass(output - batch['clean'], cutoff=cutoff)
      total += losses_lib.l1(detail, 0.0)
    return total, (new, restoration)

  def step(params: Any, opt: Any, stats: Any, latent: Any, batch: Any, index: jax.Array) -> tuple:
    grads, (stats, restoration) = jax.grad(loss_of, has_aux=True)(params, stats, latent, batch)
    params, opt, _ = optimizer.update(grads, opt, params, step=index)
    return params, opt, stats, restoration

  return step


def fine_tune(
  start: trained.Trained, mode: str, options: argparse.Namespace, check: Callable[[Any], dict[str, float]]
) -> list[dict[str, float]]:
  """Fine-tunes a copy of a model; returns the rows that `check(params)` gives along the way, with their 'step'."""
  steps, every = STEPS[options.scale]
  config = runs.config('full', options)
  config.train.stages = ('stage2',)
  config.train.init_from = str(runs.train('full', options))
  config.stage2.update({'restorer_steps': steps, 'lora_steps': 0})
  rate = RATE * config.optim.encoder_lora.learning_rate
  constant = {'learning_rate': rate, 'final_learning_rate': rate, 'warmup_steps': 0, 'weight_decay': 0.0}
  optimizer = optim.Optimizer(**(config.optim.restorer.to_dict() | constant), first_step=0, last_step=steps)
  run = train.Run(config, options.runs / options.scale / 'fig2_finetuning')
  (stage,) = run.unfinished
  (stretch,) = stage.stretches
  prepare = jax.jit(run.prepare(stage, stretch), out_shardings=parallel.image_sharding(run.mesh))
  step = jax.jit(make_step(start.networks, optimizer, mode, cutoff=config.losses.hf_cutoff))
  params = {name: start.params[name] for name in ('restorer', 'vae')}
  stats, latent, opt = start.params['restorer_stats'], start.params['latent'], optimizer.init(params)
  rows = [{'step': 0} | check(start.params)]
  with run.batches(stage, stretch) as batches:
    for index in range(steps):
      batch = prepare(parallel.put_batch(next(batches), run.mesh), np.int32(index))
      params, opt, stats, _ = step(params, opt, stats, latent, batch, np.int32(index))
      if (index + 1) % every == 0:
        rows.append({'step': index + 1} | check(start.params | params | {'restorer_stats': stats}))
  return rows


def curves(options: argparse.Namespace, images: Mapping[str, np.ndarray], clean: np.ndarray) -> dict[str, Any]:
  """Fig. 2d: {mode: rows of 'step', 'psnr_restored', 'psnr_ceiling' and, where LPIPS is at hand, 'lpips_restored'}."""
  start = trained.load('full', options)

  def check(params: Any) -> dict[str, float]:
    model = trained.Trained(start.networks, without_lora(params))
    found = trained.restoration(model, images, clean)
    ceiling = trained.score(model.decode(model.encode(clean)), clean)
    row = {'psnr_restored': found['psnr_y'], 'psnr_ceiling': ceiling['psnr_y']}
    return row | ({'lpips_restored': found['lpips_alex']} if 'lpips_alex' in found else {})

  return {mode: fine_tune(start, mode, options, check) for mode in MODES}


def without_lora(params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the parameters with both branches at zero: the model of stage 2a."""
  branches = {name: jax.tree.map(np.zeros_like, params[name]) for name in ('encoder_lora', 'decoder_lora')}
  return {**params, **branches}


def bars(options: argparse.Namespace, images: Mapping[str, np.ndarray], clean: np.ndarray) -> dict[str, Any]:
  """Fig. 2e: {model: metrics}, averaged over tasks and crops."""
  full = trained.load('full', options)
  plain = trained.Trained(full.networks, without_lora(full.params))
  return {
    'stage 2a': trained.restoration(plain, images, clean),
    'FHF-LoRA': trained.restoration(full, images, clean, alpha=1.0),
    'PHF-LoRA': trained.restoration(full, images, clean, alpha=0.0),
  }


def picture(by_mode: Mapping[str, Any], by_branch: Mapping[str, Any]) -> Figure:
  """Curves of both PSNRs, bars of what the branches change."""
  figure = Figure(figsize=(13, 3), layout='constrained')
  axes = figure.subplots(1, 4)
  for ax, field in zip(axes, ('psnr_restored', 'psnr_ceiling')):
    for mode, rows in by_mode.items():
      ax.plot([row['step'] for row in rows], [row[field] for row in rows], marker='.', label=MODES[mode])
    ax.set(title=f'2d: {field}', xlabel='step', ylabel='PSNR, dB')
  axes[0].legend(fontsize=7)
  plain, *branches = by_branch
  for ax, metric in zip(axes[2:], ('psnr_y', 'lpips_alex')):
    if metric in by_branch[plain]:
      ax.bar(branches, [by_branch[name][metric] - by_branch[plain][metric] for name in branches], width=0.5)
      ax.axhline(0.0, color='black', linewidth=0.5)
    else:
      ax.text(0.5, 0.5, 'not computed', ha='center')
    ax.set(title=f'2e: change of {metric}')
  return figure


def reason(rows: Sequence[Mapping[str, float]], scale: str) -> str:
  """Returns the likely reason why a way of fine-tuning does not end above another one.

  Args:
    rows: its curve.
    scale: a key of `STEPS`.
  """
  first, last = (rows[i]['psnr_ceiling'] for i in (0, -1))
  if first - last > trends.margin('psnr'):
    return f'VAE(clean), the ceiling, falls from {first:.2f} to {last:.2f} dB: this loss does not hold low frequencies'
  if scale == 'paper':
    return scales.few_steps(scale)
  return f'{STEPS[scale][0]} of {STEPS["paper"][0]} steps of fine-tuning'


def main(arguments: list[str] | None = None) -> None:
  """Fine-tunes three ways, compares the branches and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  clean = trained.crops(options)
  images = trained.degraded(clean, options)
  by_mode, by_branch = curves(options, images, clean), bars(options, images, clean)
  ends = {mode: rows[-1] for mode, rows in by_mode.items()}
  claims = [
    ('HF loss ends above VAE frozen', 'psnr_restored', 'hf', 'frozen', ends),
    ('HF loss ends above L_Res', 'psnr_restored', 'hf', 'l_res', ends),
    ('FHF serves fidelity more than PHF', 'psnr_y', 'FHF-LoRA', 'PHF-LoRA', by_branch),
    ('FHF improves fidelity', 'psnr_y', 'FHF-LoRA', 'stage 2a', by_branch),
    ('LPIPS is worse with FHF than with PHF', 'lpips_alex', 'FHF-LoRA', 'PHF-LoRA', by_branch),
  ]
  reasons = {'psnr_restored': reason(by_mode['hf'], options.scale)}
  few = scales.few_steps(options.scale, 'stage2.lora_steps')
  result = {'crops': len(clean), 'tasks': list(images), 'curves': by_mode}
  result |= trained.verdicts(
    'Fig. 2d, 2e',
    [trends.of_models(*claim, why=reasons.get(claim[1], few)) for claim in claims],
    'HF loss best; FHF for fidelity, PHF for perception',
  )
  result['rows'] = [{'2d': mode} | row for mode, row in ends.items()]
  result['rows'] += [{'2e': name} | found for name, found in by_branch.items()]
  runs.write(options, 'fig2_finetuning', result, picture(by_mode, by_branch))


if __name__ == '__main__':
  runs.run(main)
