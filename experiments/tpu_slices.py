"""TPU chips by their published specifications, and the slices that are compiled for."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Chip:
  """A TPU chip. Rates are per chip and dense: TFLOP/s in bfloat16, GB/s of its memory (HBM).

  Attributes:
    source: where the figures are published.
    memory_bytes: HBM that a program may use.
    bf16: TFLOP/s.
    bandwidth: of the HBM, GB/s.
    link: GB/s of one inter-chip link (ICI) in one direction.
    links: of a chip; two for each axis of its torus.
    slices: topology by number of chips, as libtpu names them.
    closes_from: sides of a slice close to a ring from so many chips on, in multiples of it; shorter ones are lines.
    options: that libtpu needs to describe a slice.
  """

  name: str
  source: str
  memory_bytes: int
  bf16: float
  bandwidth: float
  link: float
  links: int
  slices: dict[int, str]
  closes_from: int
  options: dict[str, str] = dataclasses.field(default_factory=dict)

  def sides(self, chips: int) -> tuple[int, ...]:
    """Returns the sides of the slice with so many chips."""
    return tuple(int(side) for side in self.slices[chips].split('x'))

  def closes(self, side: int) -> bool:
    """Whether the chips along such a side of a slice form a ring."""
    return side % self.closes_from == 0


_CUBES = {
  4: '2x2x1',
  8: '2x2x2',
  16: '2x2x4',
  32: '2x4x4',
  64: '4x4x4',
  128: '4x4x8',
  256: '4x8x8',
}
_SQUARES = {4: '2x2', 8: '2x4', 16: '4x4', 32: '4x8', 64: '8x8', 128: '8x16', 256: '16x16'}

# Rings: Austin et al., "How to Scale Your Model" (2025): by optical switches between cubes of 4 x 4 x 4, and on v5e and
# v6e along a whole side of their pod.
# Published link rates of v5e, v5p and v6e are sums over all links and both directions: 400, 1200 and 800 GB/s.
CHIPS = {
  'v4': Chip(
    name='TPU v4',
    source='Jouppi et al., "TPU v4" (ISCA 2023, arXiv:2304.01433), Table 4',
    memory_bytes=32 * 2**30,
    bf16=275.0,
    bandwidth=1200.0,
    link=50.0,
    links=6,
    slices=_CUBES,
    closes_from=4,
    # Both cores of a chip as one device, as on Cloud TPU.
    options={'chip_config_name': 'megacore'},
  ),
  'v5e': Chip(
    name='TPU v5e',
    source='Google Cloud documentation, "TPU v5e", key specifications (cloud.google.com/tpu/docs/v5e)',
    memory_bytes=16 * 10**9,
    bf16=197.0,
    bandwidth=819.0,
    link=50.0,
    links=4,
    slices=_SQUARES,
    closes_from=16,
  ),
  'v5p': Chip(
    name='TPU v5p',
    source='Google Cloud documentation, "TPU v5p", key specifications (cloud.google.com/tpu/docs/v5p)',
    memory_bytes=95 * 2**30,
    bf16=459.0,
    bandwidth=2765.0,
    link=100.0,
    links=6,
    slices=_CUBES,
    closes_from=4,
  ),
  'v6e': Chip(
    name='TPU v6e',
    source='Google Cloud documentation, "TPU v6e", key specifications (cloud.google.com/tpu/docs/v6e)',
    memory_bytes=32 * 10**9,
    bf16=918.0,
    bandwidth=1600.0,
    link=100.0,
    links=4,
    slices=_SQUARES,
    closes_from=16,
  ),
}


def ring_bandwidth(chip: Chip, chips: int) -> float:
  """Returns the GB/s at which a chip sends in a collective over a whole slice: two links along an axis that closes to a
  ring, one along a line, whose end has no other.
  """
  links = sum((2 if chip.closes(side) else 1) for side in chip.sides(chips) if side > 1)
  return chip.link * links


assert all(math.prod(chip.sides(count)) == count for chip in CHIPS.values() for count in chip.slices)
