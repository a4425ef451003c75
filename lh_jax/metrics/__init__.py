"""Image quality metrics of restored images against their references."""

from lh_jax.metrics.color_difference import ciede2000 as ciede2000
from lh_jax.metrics.similarity import evaluate_pair as evaluate_pair
from lh_jax.metrics.similarity import psnr as psnr
from lh_jax.metrics.similarity import ssim as ssim
