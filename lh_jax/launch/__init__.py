"""Starting `lh_jax.main` on every host of a TPU pod, of a SLURM job, or in several processes of one machine.

`python -m lh_jax.launch TARGET [options] -- [arguments of lh_jax.main]`; README.md in this folder has the examples. The
scripts in `templates/` are rendered here and can be filled in by hand as well. JAX is not imported: launching works
from a laptop that has none.
"""
