"""The variants of Tables 5a to 5d, Supp. Table 5 and Supp. Fig. 7, on the four-degradation setting of configs/uhd4.py.

  python -m lh_jax.main --config=configs/ablations.py:no_pdps --workdir=runs/no_pdps --config.data.path=DATA

The argument is one of `VARIANTS`; or `restorer_NAME` (lh_jax.models.restorers), `foundation_NAME`
(lh_jax.models.foundation), `rank_R` (of both LoRA branches, at the same scale), `inv_W` or `eqv_W` (weight of L_Inv or
L_Eqv). `vae_lh_fe` is the authors' budget: the body of their earlier VAE and a small restorer. A variant changes values of the configuration, never code. Without one of its two branches, 2b trains the other
one for as many steps as before.
"""

from pathlib import Path
import re
import runpy

from ml_collections import ConfigDict

UHD4 = runpy.run_path(str(Path(__file__).with_name('uhd4.py')))

NO_PERTURBATION = {'pdps.probabilities': (1.0, 0.0, 0.0)}
# A VAE that stage 1 trains to reconstruct and for nothing else.
BARE = NO_PERTURBATION | {'losses.invariance': 0.0, 'losses.equivariance': 0.0}
VARIANTS = {
  'full': {},
  'no_invariance': {'losses.invariance': 0.0},
  'no_equivariance': {'losses.equivariance': 0.0},
  'no_pdps': NO_PERTURBATION,
  'no_fhf': {'stage2.lora_phases': ('decoder_lora',), 'stage2.lora_steps': 4_000},
  'no_phf': {'stage2.lora_phases': ('encoder_lora',), 'stage2.lora_steps': 4_000},
  'no_lora': {'stage2.lora_steps': 0},
  'vae1': BARE | {'vae.preset': 'vae1'},
  'vae2': BARE | {'vae.preset': 'vae2'},
  'vae_lh_fe': {'vae.preset': 'lh_fe', 'restorer.dims': (24,), 'restorer.blocks': (3,), 'lora.min_kernel': 1},
}


def get_config(arg: str = 'full') -> ConfigDict:
  """Returns a variant's configuration."""
  config = UHD4['get_config']()
  config.update_from_flattened_dict(changes(arg))
  return config


def changes(arg: str) -> dict:
  """Returns what the variant changes.

  Raises:
    ValueError: unknown variant.
  """
  if arg in VARIANTS:
    return VARIANTS[arg]
  kind, _, value = arg.partition('_')
  if kind in ('restorer', 'foundation') and value:
    return {f'{kind}.name': value}
  if kind == 'rank' and re.fullmatch('[1-9][0-9]*', value):
    return {'lora.rank': int(value), 'lora.alpha': float(value)}
  if kind in ('inv', 'eqv') and re.fullmatch(r'[0-9]+(\.[0-9]+)?', value):
    return {'losses.invariance' if kind == 'inv' else 'losses.equivariance': float(value)}
  raise ValueError(
    f'Unknown argument {arg!r} of configs/ablations.py; known: {", ".join(VARIANTS)}, restorer_NAME, foundation_NAME, '
    'rank_R, inv_W and eqv_W.'
  )
