"""Portable models: the programs and the parameters of a model in one file, run without the model's code.

A file, written by `lh_jax.save_portable`, is a zip archive without compression:
  manifest.json      what it is: format, versions, geometry, image sizes and their windows, pixel types, platforms, the
                     programs, and the sha256 of everything else
  weights.npz        the parameters, in the order in which every program takes them
  programs/*         one serialised `jax.export.Exported` (StableHLO) each: ([weights], scale, pixels) for 'encode',
                     ([weights], latent) for 'restore', ([weights], scale, latent) for 'decode'; see `lh_jax.windows`
Shapes are fixed: the Fourier transform of the restorer wants the size of the whole latent. alpha is an input. The
programs are lowered, not compiled: the machine that runs them compiles them.

Reading a file unpickles nothing. Only JAX, numpy and the modules of this package that know no network are imported.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import pathlib
import threading
from typing import Any, Callable
import zipfile

import jax
import jax.export
import numpy as np

from lh_jax import parallel
from lh_jax import windows
from lh_jax.ops import tiles

log = logging.getLogger('lh_jax')

KIND = 'lh_jax portable model'
FORMAT = 1
MANIFEST = 'manifest.json'
WEIGHTS = 'weights.npz'


def load(path: str | os.PathLike[str], *, devices: int = 1) -> PortableRestorer:
  """Opens a portable model.

  Args:
    path: a file that `lh_jax.save_portable` wrote.
    devices: how many devices of this process share the rows of an image.

  Raises:
    OSError: the file cannot be read.
    ValueError: it is no portable model, is damaged, newer than this version or this JAX, or made for other platforms;
      or there are not so many devices.
  """
  path = pathlib.Path(path)
  manifest, entries = _read(path)
  platform = jax.export.default_export_platform()
  if platform not in manifest['platforms']:
    raise ValueError(
      f'{path} holds programs for {", ".join(manifest["platforms"])}, and JAX runs on {platform}: set JAX_PLATFORMS to '
      f'one of these, or write the model again with --platforms {platform}.'
    )
  # As `Restorer`: bfloat16 is slower on CPUs.
  auto = 'float32' if platform == 'cpu' else 'bfloat16'
  dtype = auto if manifest['dtype'] == 'auto' else manifest['dtype']
  mesh = parallel.make_space_mesh(devices)
  with np.load(io.BytesIO(entries[WEIGHTS]), allow_pickle=False) as weights:
    params = jax.device_put([weights[name] for name in weights.files], parallel.replicated(mesh))
  return PortableRestorer(path, manifest, StoredPrograms(path, manifest, entries, params, dtype=dtype, mesh=mesh))


class StoredPrograms:
  """The programs of a file, compiled for this machine as they are asked for (a `windows.Programs`)."""

  def __init__(
    self,
    path: pathlib.Path,
    manifest: dict[str, Any],
    entries: dict[str, bytes],
    params: list[jax.Array],
    *,
    dtype: str,
    mesh: parallel.Mesh,
  ):
    """Finds the programs; compiles none.

    Args:
      path: the file, for messages.
      manifest: of the file.
      entries: its other entries.
      params: its parameters, placed on every device.
      dtype: of the activations, 'float32' or 'bfloat16'.
      mesh: each window's rows are split over its devices.
    """
    self._path, self._manifest, self._entries = path, manifest, entries
    self.geometry = tiles.Geometry(**manifest['geometry'])
    self.params, self.mesh = params, mesh
    self.exact = dtype == 'float32'
    self._files = {
      (program['stage'], program['rows'], program['columns'], program['pixels']): program['file']
      for program in manifest['programs']
      if program['dtype'] == dtype
    }
    self._programs: dict[str, windows.Program] = {}
    self._lock = threading.Lock()
    self._exact: StoredPrograms | None = None

  def get(self, stage: str, rows: int, columns: int, dtype: Any = np.float32) -> windows.Program:
    """Returns the program of a stage for windows of rows x columns cells and pixels of `dtype`, one that is there.

    Raises:
      ValueError: this JAX cannot read it.
    """
    file = self._files[stage, rows, columns, None if stage == 'restore' else np.dtype(dtype).name]
    with self._lock:
      if file not in self._programs:
        self._programs[file] = self._compile(file)
      return self._programs[file]

  def _compile(self, file: str) -> windows.Program:
    if not self._programs:
      log.info('Compiling, or loading what an earlier run compiled ...')
    try:
      exported = jax.export.deserialize(bytearray(self._entries[file]))
    except Exception as error:
      raise ValueError(
        f'{self._path}: JAX {jax.__version__} cannot read the programs that JAX {self._manifest["jax"]} wrote '
        f'({error}): write the model again with this version, or use that one.'
      ) from error
    (params, *arguments), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    compiled = parallel.compile_over_space(exported.call, self.mesh, params, arguments)
    # Nobody plans with its bytes: the windows were chosen when the file was written.
    return windows.Program(compiled, 0)

  def in_float32(self) -> StoredPrograms:
    """Returns the same model with float32 activations."""
    with self._lock:
      if self._exact is None:
        self._exact = StoredPrograms(
          self._path, self._manifest, self._entries, self.params, dtype='float32', mesh=self.mesh
        )
      return self._exact


class PortableRestorer:
  """A restoration model for some image sizes, ready to use.

  restorer = portable.load('model-4k.lh')
  restored = restorer.restore(image, alpha=0.5)

  Attributes:
    manifest: what the file says about itself.
    sizes: (width, height) of the images that it restores, and of those that need as many cells of the latent.
  """

  def __init__(self, path: pathlib.Path, manifest: dict[str, Any], programs: StoredPrograms):
    """Use `load`."""
    self.manifest = manifest
    self.sizes = [tuple(entry['size']) for entry in manifest['sizes']]
    self._path, self._programs = path, programs
    self._windows = {
      programs.geometry.cells((height, width)): [tuple(window) for window in entry['windows']]
      for (width, height), entry in zip(self.sizes, manifest['sizes'])
    }

  def restore(self, image: np.ndarray, **options: Any) -> np.ndarray:
    """Restores an image; arguments and errors as `run`. Returns it with the same shape and dtype."""
    return self.run(image, **options).image

  def run(
    self, image: np.ndarray, *, alpha: float | None = None, progress: Callable[[float], None] | None = None
  ) -> windows.Restored:
    """Restores an image and says how.

    Args:
      image: (H, W, 3) RGB of one of the `sizes`; uint8, uint16, or float32 in [0, 1], as far as the file holds them.
      alpha: in [0, 1]: 1 is most faithful (highest PSNR), 0 most perceptual (lowest LPIPS; Sec. 3.3); None is the
        file's default.
      progress: called with the share of the work that is done, 0 to 1, after every window.

    Raises:
      ValueError: not such an image, one for which the file holds no programs, or alpha outside [0, 1].
      FloatingPointError: the result is not finite, in float32 either.
      MemoryError: the smallest windows of the file, or the latent of the whole image, do not fit.
    """
    alpha = self.manifest['alpha'] if alpha is None else alpha
    windows.check_image(image)
    windows.check_alpha(alpha)
    cells = self._programs.geometry.cells(image.shape)
    self._check_held(image, cells)
    first, *others = self._windows[cells]
    others = iter(others)

    def smaller(window: tuple[int, int]) -> tuple[int, int]:
      found = next(others, None)
      if found is None:
        height, width = (side * self._programs.geometry.factor for side in window)
        raise MemoryError(
          f'A window of {width}x{height} pixels does not fit into memory, and {self._path} holds no smaller ones for '
          'this image: free some, or write the model again with a smaller --tile.'
        )
      return found

    run = windows.Run(image, self._programs, self._programs.in_float32, window=first, smaller=smaller)
    run.watch(progress)
    return run.result(run.decode(run.restore(run.encode(alpha)), 1.0 - alpha))

  def _check_held(self, image: np.ndarray, cells: tuple[int, int]) -> None:
    pixels = self.manifest['pixels']
    if image.dtype.name not in pixels:
      raise ValueError(
        f'{self._path} holds programs for {" and ".join(pixels)} pixels, got {image.dtype}: convert the image, or '
        f'write the model again with --pixels {" ".join([*pixels, image.dtype.name])}.'
      )
    if cells not in self._windows:
      held = ', '.join(f'{width}x{height}' for width, height in self.sizes)
      raise ValueError(
        f'{self._path} holds programs for images of {held} pixels (width x height), got '
        f'{image.shape[1]}x{image.shape[0]}: write the model again with --size {image.shape[1]}x{image.shape[0]}.'
      )


def _read(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, bytes]]:
  """Returns the manifest and every other entry of a file, checked."""
  unknown = f'{path} is no portable model, or only part of one: write it with python -m lh_jax.save_portable.'
  try:
    with zipfile.ZipFile(path) as archive:
      manifest = json.loads(archive.read(MANIFEST))
      if manifest.get('kind') != KIND:
        raise ValueError(unknown)
      _check_versions(path, manifest)
      return manifest, {name: _checked(path, archive, name, digest) for name, digest in manifest['sha256'].items()}
  except (zipfile.BadZipFile, KeyError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(unknown) from error


def _check_versions(path: pathlib.Path, manifest: dict[str, Any]) -> None:
  if manifest['format'] != FORMAT:
    raise ValueError(
      f'{path} has portable format {manifest["format"]!r}, this version reads {FORMAT}: write it again, or use '
      f'lh_jax {manifest["lh_jax"]}, which wrote it.'
    )
  known = jax.export.maximum_supported_calling_convention_version
  if manifest['calling_convention'] > known:
    raise ValueError(
      f'{path} has programs of calling convention {manifest["calling_convention"]}, and JAX {jax.__version__} knows '
      f'those up to {known}: update JAX to {manifest["jax"]}, which wrote it.'
    )


def _checked(path: pathlib.Path, archive: zipfile.ZipFile, name: str, digest: str) -> bytes:
  try:
    data = archive.read(name)
  except (zipfile.BadZipFile, KeyError):
    data = None
  if data is None or hashlib.sha256(data).hexdigest() != digest:
    raise ValueError(f'{path} is damaged: its entry {name} is not what was written. Copy it again.')
  return data
