"""Latent Harmony in JAX: all-in-one ultra-high-definition image restoration (arXiv 2510.07961).

`lh_jax.Restorer` restores images; training, evaluation and restoring of files run through `python -m lh_jax.main`.
Importing this package is cheap: JAX is imported when `Restorer` is first used.
"""

__version__ = '0.1.0'
__all__ = ['Restorer', '__version__']


def __getattr__(name: str):
  if name == 'Restorer':
    from lh_jax.inference import Restorer

    return Restorer
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
