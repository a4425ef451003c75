"""Image quality metrics: what they take, and where each lives.

Metrics with a reference compare the pixels that are written: `psnr` and `ssim` take batches of floats (`similarity`),
`evaluate_pair` and `ciede2000` take uint8 images, and so does the LPIPS that `load_lpips` makes. Metrics without a
reference, or of whole sets, are the modules `niqe` and `fid`.
"""

from lh_jax.metrics import fid as fid
from lh_jax.metrics import niqe as niqe
from lh_jax.metrics.color_difference import ciede2000 as ciede2000
from lh_jax.metrics.lpips import load_lpips as load_lpips
from lh_jax.metrics.similarity import evaluate_pair as evaluate_pair
from lh_jax.metrics.similarity import psnr as psnr
from lh_jax.metrics.similarity import ssim as ssim
