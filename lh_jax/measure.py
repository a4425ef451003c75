"""Measuring under a protocol: the models that its metrics need, loaded once, and the values of each pair of images.

Contract: `Measure.load` opens what is at hand and says of everything else why it is not computed; no number stands in
for it. LPIPS belongs to the protocols. NIQE (of one image, without reference) and FID (of two sets of images) belong to
none and are measured where the user names the file of their model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import logging
import pathlib
from typing import Any

import numpy as np

from lh_jax import metrics
from lh_jax import protocols
from lh_jax import results
from lh_jax.metrics import fid
from lh_jax.metrics import images
from lh_jax.metrics import niqe

log = logging.getLogger(__name__)

Distance = Callable[[np.ndarray, np.ndarray], float]
SET_METRICS = {'image': 'fid', 'patch': 'patch_fid'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
  """A protocol with its models.

  Attributes:
    protocol: what is measured.
    lpips: distances by network; without one, its value is left out.
    niqe: the model of NIQE; None leaves it out.
    inception: the network of FID; None leaves it out.
    fid_kind: 'image' shrinks whole images to 299 x 299, 'patch' cuts them into such patches.
    not_computed: by name of a metric, why it is left out.
    models: by name of a metric, the file of its model and the file's SHA-256, for results.
  """

  protocol: protocols.Protocol
  lpips: Mapping[str, Distance] = dataclasses.field(default_factory=dict)
  niqe: niqe.Model | None = None
  inception: Callable[[np.ndarray], np.ndarray] | None = None
  fid_kind: str = 'image'
  not_computed: Mapping[str, str] = dataclasses.field(default_factory=dict)
  models: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

  @classmethod
  def load(
    cls,
    protocol: protocols.Protocol,
    *,
    lpips: str = 'auto',
    niqe_model: str | pathlib.Path = '',
    fid_weights: str | pathlib.Path = '',
    fid_kind: str = 'image',
  ) -> Measure:
    """Loads the models.

    Args:
      protocol: the protocol.
      lpips: 'auto' where its weights have been converted, or 'none'.
      niqe_model: file of NIQE's model, see `metrics.niqe.load`; empty for none.
      fid_weights: file of FID's Inception network, see `metrics.fid.load`; empty for none.
      fid_kind: 'image' or 'patch'.

    Raises:
      FileNotFoundError: a file that is named does not exist.
      ValueError: an unknown choice, or a file that is damaged or of another network.
    """
    for name, value, known in (('lpips', lpips, protocols.LPIPS), ('fid_kind', fid_kind, protocols.FID_KINDS)):
      if value not in known:
        raise ValueError(f'{name} is {value!r}; it must be one of {", ".join(known)}.')
    distances, missing = _load_lpips(protocol, lpips)
    if not niqe_model:
      missing['niqe'] = 'not computed: no model was named'
    if not fid_weights:
      missing[SET_METRICS[fid_kind]] = 'not computed: no Inception weights were named'
    named = {'niqe': niqe_model, SET_METRICS[fid_kind]: fid_weights}
    return cls(
      protocol=protocol,
      lpips=distances,
      niqe=niqe.load(niqe_model) if niqe_model else None,
      inception=fid.load(fid_weights) if fid_weights else None,
      fid_kind=fid_kind,
      not_computed=missing,
      models={
        name: {'path': str(path), 'sha256': results.file_hash(pathlib.Path(path))}
        for name, path in named.items()
        if path
      },
    )

  def without(self, reasons: Mapping[str, str]) -> Measure:
    """Returns the measure without the metrics named in `reasons`, for example what another process cannot compute."""
    return dataclasses.replace(
      self,
      lpips={net: distance for net, distance in self.lpips.items() if f'lpips_{net}' not in reasons},
      niqe=None if 'niqe' in reasons else self.niqe,
      inception=None if self.set_metric in reasons else self.inception,
      not_computed={**self.not_computed, **reasons},
      models={name: model for name, model in self.models.items() if name not in reasons},
    )

  @property
  def metrics(self) -> tuple[str, ...]:
    """The names of an image's values: the protocol's, computed or not, and NIQE where it is."""
    return (*self.protocol.metrics, *(('niqe',) if self.niqe is not None else ()))

  @property
  def set_metric(self) -> str:
    """The name of the value of a set of images."""
    return SET_METRICS[self.fid_kind]

  @property
  def columns(self) -> tuple[str, ...]:
    """The names of a table's values: `metrics`, and FID where it is computed."""
    return (*self.metrics, *((self.set_metric,) if self.inception is not None else ()))

  @property
  def provenance(self) -> dict[str, Any]:
    """What a result says of how it was measured."""
    return {
      'protocol': dataclasses.asdict(self.protocol),
      'models': dict(self.models),
      'not_computed': dict(self.not_computed),
    }

  def score(self, restored: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Scores one image.

    Args:
      restored: (H, W, 3) uint8 RGB.
      reference: the same shape.

    Returns:
      The values by the names of `metrics`, without those that are not computed and without NIQE where the image is too
      small or too flat for it; PSNR (dB) of equal images is infinite.

    Raises:
      ValueError: not such images, different shapes, or too small for the protocol.
    """
    protocol = self.protocol
    images.check_pair(f'Protocol {protocol.name}', restored, reference)
    a, b = (_middle(image, protocol.multiple) for image in (restored, reference))
    if min(a.shape[:2]) < protocols.MIN_SIDE + 2 * protocol.border:
      raise ValueError(
        f'Protocol {protocol.name} needs at least {protocols.MIN_SIDE + 2 * protocol.border} pixels a side, got '
        f'{a.shape[0]}x{a.shape[1]} (height x width) after its crop to a multiple of {protocol.multiple}.'
      )
    values = metrics.evaluate_pair(
      a, b, border=protocol.border, window=protocol.ssim_window, ssim_side=protocol.ssim_side
    )
    values['ciede2000'] = metrics.ciede2000(a, b)
    if self.lpips:
      order = slice(None, None, -1 if protocol.lpips_channels == 'bgr' else 1)
      fed = [np.ascontiguousarray(image[:, :, order]) for image in (a, b)]
      values |= {f'lpips_{net}': float(distance(*fed)) for net, distance in self.lpips.items()}
    if self.niqe is not None:
      try:
        values['niqe'] = niqe.score(restored, self.niqe)
      except ValueError as error:
        log.warning('%s.', error)
    return {name: values[name] for name in self.metrics if name in values}

  def lacking(self, means: Mapping[str, Any], suffix: str = '') -> dict[str, str]:
    """Says why a row of means lacks a value that is measured.

    Args:
      means: by name.
      suffix: of its names, such as '_restored'.

    Returns:
      By the name of a metric, the reason.
    """
    reasons = {
      'niqe': 'not computed: an image is too small or too flat',
      self.set_metric: 'not computed: takes two images',
    }
    return {name: reasons[name] for name in self.columns if name in reasons and f'{name}{suffix}' not in means}

  def features(self, image: np.ndarray) -> np.ndarray:
    """Returns FID's features of one image or of its patches, (N, 2048) float32.

    Raises:
      ValueError: the image is not uint8 (H, W, 3), or smaller than a patch.
    """
    parts: Iterable[np.ndarray] = (image,) if self.fid_kind == 'image' else fid.patches(image)
    return np.concatenate([self.inception(part) for part in parts])


def _load_lpips(protocol: protocols.Protocol, wanted: str) -> tuple[dict[str, Distance], dict[str, Any]]:
  """The networks of a protocol's LPIPS that are at hand; and by name of a metric, why it is not computed."""
  if wanted == 'none':
    return {}, {f'lpips_{net}': 'not computed: left out (lpips none)' for net in protocol.lpips}
  found, missing = {}, {}
  for net in protocol.lpips:
    try:
      found[net] = metrics.load_lpips(net)
    except FileNotFoundError:
      missing[f'lpips_{net}'] = f'not computed: run python -m lh_jax.convert lpips_{net}'
  return found, missing


def _middle(image: np.ndarray, multiple: int) -> np.ndarray:
  for axis, side in enumerate(image.shape[:2]):
    kept = side // multiple * multiple
    first = (side - kept) // 2
    image = image[(slice(None),) * axis + (slice(first, first + kept),)]
  return image
