"""Painted images with the statistics of photographs: the dead leaves model.

Contract: `dead_leaves(rng, size)` gives a (size, size, 3) uint8 image, a function of the generator's state alone.
Opaque disks and polygons whose radii follow the density r^-3 fall on the plane and hide one another. The result is
nearly scale invariant, has sharp occlusion edges and the spectrum and wavelet statistics of natural images: Lee,
Mumford and Huang, "Occlusion Models for Natural Images", IJCV 2001. Leaves carry fractal texture and a shading
gradient; their colours are drawn along decorrelated axes, most variance in lightness, then blue-yellow, then
red-green: Ruderman, Cronin and Chiao, "Statistics of cone responses to natural images", JOSA A 1998.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

_SMALLEST_RADIUS = 2.5  # pixels; smaller leaves would be noise after the final antialiasing
_SMALLEST_SHARE = 1 / 1000  # of the side; keeps the number of leaves, and so the time, in bounds for large images
_COVERAGE = 4.0  # disks that would lie over a point; polygons cover less, so a few percent show the background
_TEXTURE_SIDE = 512
_TEXTURE_SLOPES = (1.0, 1.4, 1.8)  # amplitude ~ 1 / frequency^slope: from rough to cloudy
# Columns: lightness, blue-yellow, red-green directions in RGB.
_COLOR_AXES = np.array([[1.0, -0.5, 0.7], [1.0, -0.5, -0.7], [1.0, 1.0, 0.0]], np.float32)
_COLOR_SPREAD = np.array([0.22, 0.07, 0.04], np.float32)


def _textures(rng: np.random.Generator) -> np.ndarray:
  """(slopes, side, side) periodic fractal noise of unit variance."""
  frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(_TEXTURE_SIDE), np.fft.rfftfreq(_TEXTURE_SIDE), indexing='ij'))
  frequency[0, 0] = np.inf  # no constant part
  spectrum = np.fft.rfft2(rng.standard_normal((_TEXTURE_SIDE, _TEXTURE_SIDE)))
  layers = [np.fft.irfft2(spectrum / frequency**slope, s=(_TEXTURE_SIDE, _TEXTURE_SIDE)) for slope in _TEXTURE_SLOPES]
  return np.stack([layer / layer.std() for layer in layers]).astype(np.float32)


def _leaf_map(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Draws the leaves. Returns the index of the visible leaf per pixel, the centres (n, 2: y, x) and the radii (n,)."""
  smallest = max(_SMALLEST_RADIUS, _SMALLEST_SHARE * size)
  largest = max(size / 3, 2 * smallest)
  mean_area = 2 * np.pi * np.log(largest / smallest) / (smallest**-2 - largest**-2)
  plane = (size + largest) ** 2  # centres lie up to half the largest radius outside
  count = 1 + int(_COVERAGE * plane / mean_area)
  # Inverse of the cumulative distribution of the density r^-3 between the two radii.
  radii = (smallest**-2 - rng.random(count) * (smallest**-2 - largest**-2)) ** -0.5
  centres = rng.uniform(-largest / 2, size + largest / 2, (count, 2))
  centres[0], radii[0] = size / 2, size  # the background, for its shading
  corners = np.where(rng.random(count) < 0.5, 0, rng.integers(3, 9, count))  # 0: a disk
  angles = rng.uniform(0, 2 * np.pi, (count, 8))
  canvas = Image.new('I', (size, size), 0)
  draw = ImageDraw.Draw(canvas)
  for index in range(1, count):
    y, x = centres[index]
    r = radii[index]
    if not corners[index]:
      draw.ellipse((x - r, y - r, x + r, y + r), fill=index)
      continue
    turn = np.sort(angles[index, : corners[index]])
    draw.polygon(np.stack([x + r * np.cos(turn), y + r * np.sin(turn)], axis=1).ravel().tolist(), fill=index)
  return np.asarray(canvas), centres.astype(np.float32), radii.astype(np.float32)


def _antialias(image: np.ndarray) -> np.ndarray:
  """A 1-2-1 filter along both axes, edges repeated: about the softness a lens and a sensor give."""
  for axis in (0, 1):
    padded = np.pad(image, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode='edge')
    before, after = np.split(padded, [2], axis)[1], np.split(padded, [-2], axis)[0]
    image = 0.25 * (before + after) + 0.5 * image
  return image


def dead_leaves(rng: np.random.Generator, size: int) -> np.ndarray:
  """Paints one image.

  Args:
    rng: the source of everything; it is advanced.
    size: side in pixels.

  Returns:
    (size, size, 3) uint8.

  Raises:
    ValueError: if the size is not positive.
  """
  if size < 1:
    raise ValueError(f'size of a painted image is {size}; it must be positive')
  leaf, centres, radii = _leaf_map(rng, size)
  textures = _textures(rng)
  count = len(radii)
  color = 0.45 + (rng.standard_normal((count, 3)).astype(np.float32) * _COLOR_SPREAD) @ _COLOR_AXES.T
  contrast = rng.exponential(0.06, count).astype(np.float32)
  slope = rng.integers(len(_TEXTURE_SLOPES), size=count)
  offset = rng.integers(_TEXTURE_SIDE, size=(count, 2))
  shading = rng.normal(0, 0.08, (count, 2)).astype(np.float32) / radii[:, None]
  image = np.empty((size, size, 3), np.float32)
  # Light over a leaf = level + contrast texture + shading (y, x); light multiplies the colour, so a dark leaf shows its
  # texture as weakly as a dark object does.
  level = 1.0 - 2.0 * (shading * centres).sum(axis=1)
  start = (slope * _TEXTURE_SIDE**2).astype(np.int32)
  offset = offset.astype(np.int32)
  x = np.arange(size, dtype=np.int32)
  for y, row in enumerate(leaf):  # row by row: 4K images then need no more memory than themselves
    texture_y, texture_x = (y + offset[row, 0]) % _TEXTURE_SIDE, (x + offset[row, 1]) % _TEXTURE_SIDE
    pattern = textures.ravel()[start[row] + texture_y * _TEXTURE_SIDE + texture_x]
    gradient = shading[row, 0] * y + shading[row, 1] * x
    image[y] = color[row] * (level[row] + 2.0 * (contrast[row] * pattern + gradient))[:, None]
  return np.floor(np.clip(_antialias(image), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
