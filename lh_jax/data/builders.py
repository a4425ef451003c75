"""The published data sets as TensorFlow Datasets builders, over folders downloaded by hand.

  builder = UhdLl(data_dir='PREPARED', file_format='array_record')
  builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir='UHD-LL'))
  builder.as_data_source(split='train')[0]['clean']

Contract: an example is {'clean', 'degraded', 'name', 'task'}: (height, width, 3) uint8 as our own reader gives them, EXIF
orientation applied, stored as PNG, without 'degraded' for sets of clean images; splits are train, val and test as in
`data.splits`. Preparing imports TensorFlow; reading with `as_data_source`, or with `tfds.builder_from_directory` where
this package is not installed, does not. The one door to tensorflow_datasets.
"""

from __future__ import annotations

from collections.abc import Iterator
import pathlib
from typing import Any

import tensorflow_datasets as tfds

from lh_jax.data import layouts
from lh_jax.data import splits
from lh_jax.data.datasets import Dataset
from lh_jax.data.datasets import DATASETS
from lh_jax.data.items import raise_problems
from lh_jax.data.items import read_uint8
from lh_jax.data.items import sized


class _Published(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """What the builders have in common; `dataset` tells the rest."""

  VERSION = tfds.core.Version('1.0.0')
  code_path = None  # beside which TFDS would look for checksums of downloads, and there are none
  dataset: Dataset

  def _info(self) -> tfds.core.DatasetInfo:
    features = {
      'clean': tfds.features.Image(shape=(None, None, 3), encoding_format='png'),
      'name': tfds.features.Text(),
      'task': tfds.features.Text(),
    }
    if self.dataset.degraded:
      features['degraded'] = tfds.features.Image(shape=(None, None, 3), encoding_format='png')
    return tfds.core.DatasetInfo(
      builder=self,
      description=f'{self.dataset.title}. Licence: {self.dataset.licence}.',
      features=tfds.features.FeaturesDict(features),
      homepage=self.dataset.links[0][1],
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Any]]:
    folder = pathlib.Path(dl_manager.manual_dir)
    return {split: self._generate_examples(folder, split) for split in ('train', 'val', 'test')}

  def _generate_examples(self, folder: pathlib.Path, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    scanned = layouts.scan(folder, self.dataset, splits.published(split))
    items, unreadable = sized(layouts.select(scanned, self.dataset, split) if not scanned.problems else ())
    problems = [problem.text for problem in scanned.problems] + unreadable
    raise_problems(f'{self.dataset.title} at {str(folder)!r}', problems)
    for item in items:
      example = {'clean': read_uint8(item.clean), 'name': item.name, 'task': item.task}
      yield item.name, example if item.degraded is None else example | {'degraded': read_uint8(item.degraded)}


def _builder(dataset: Dataset) -> type[_Published]:
  """The builder of one data set: uhd_ll -> class UhdLl, registered as uhd_ll."""
  return type(
    dataset.name.title().replace('_', ''),
    (_Published,),
    {
      '__doc__': f'{dataset.title}, downloaded by hand.',
      '__module__': __name__,
      'name': dataset.name,
      'dataset': dataset,
      'MANUAL_DOWNLOAD_INSTRUCTIONS': dataset.instructions,
    },
  )


BUILDERS = {name: _builder(dataset) for name, dataset in DATASETS.items()}
UhdLl = BUILDERS['uhd_ll']
UhdBlur = BUILDERS['uhd_blur']
UhdHaze = BUILDERS['uhd_haze']
UhdRain = BUILDERS['uhd_rain']
UhdSnow = BUILDERS['uhd_snow']
UhdNoise = BUILDERS['uhd_noise']
UhdMoire = BUILDERS['uhd_moire']
Gends = BUILDERS['gends']
