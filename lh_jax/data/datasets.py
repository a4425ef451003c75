"""The published data sets of the benchmark: what each holds, how its folders are called, and where it is to be had.

Contract: facts only, nothing here touches a disk. Counts are noted for the paper (Latent Harmony, supplement, Table 1)
and for the sets' publishers, because they disagree: the paper tests on 115 of UHD-LL's 150 images and trains on subsets
of UHD-Snow and UHD-Rain. Folder names are compared without regard to case.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses

PUBLISHED_SPLITS = ('train', 'test')

_TRAIN = ('train', 'training_set')
_TEST = ('test', 'testing_set')


def _drive_folder(key: str) -> str:
  return f'https://drive.google.com/drive/folders/{key}'


def _drive_file(key: str) -> str:
  return f'https://drive.google.com/file/d/{key}'


def _benchmark_copy(key: str) -> tuple[str, str]:
  """The copies that the README of UHD-processer links to: the very images that the paper uses."""
  return "the paper's copy (UHD-processer)", _drive_file(key)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Count:
  """How many images somebody says there are.

  Attributes:
    by: who says so.
    train: training images.
    test: test images.
  """

  by: str
  train: int
  test: int


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A number of images beside what others say.

  Attributes:
    text: whose number is another one; empty where nobody's is.
    differs: it is nobody's number.
  """

  text: str
  differs: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """One published data set.

  Attributes:
    name: its name here.
    title: its name in the paper.
    task: the task of its images; None where sub-folders of a split tell it.
    counts: what the paper and the publishers say.
    clean: names that the folder of clean images may have, inside that of a split.
    degraded: the same for the degraded images; empty for a set of clean images, which are degraded on the fly.
    marks: for sets that keep both in one folder, what ends the stems of clean and of degraded files.
    task_folders: for sets of several tasks, the names of their folders and the tasks.
    train: names that the folder of training images may have.
    test: the same for test images.
    links: where it is to be had: (what, address).
    licence: what is known of it.
  """

  name: str
  title: str
  task: str | None
  counts: tuple[Count, ...]
  links: tuple[tuple[str, str], ...]
  clean: tuple[str, ...] = ('gt', 'target')
  degraded: tuple[str, ...] = ('input',)
  marks: tuple[str, str] | None = None
  task_folders: Mapping[str, str] = dataclasses.field(default_factory=dict)
  train: tuple[str, ...] = _TRAIN
  test: tuple[str, ...] = _TEST
  licence: str = 'none known to us: read the page it comes from, and ask its authors before any use but research'

  @property
  def layout(self) -> str:
    """The accepted folders, in one line."""
    inside = f'{"|".join(self.clean)} and {"|".join(self.degraded)}' if self.degraded else '|'.join(self.clean)
    inside = f'folders {inside}, files of one pair under one name'
    if self.marks is not None:
      inside = f'files NAME{self.marks[0]}.* and NAME{self.marks[1]}.* at any depth, or {inside}'
    if not self.degraded:
      inside = f'the clean images themselves, or a folder {"|".join(self.clean)} of them'
    if self.task_folders:
      inside = f'a folder for each degradation ({", ".join(self.task_folders)}), each with {inside}'
    return f'{"|".join(self.train)} and {"|".join(self.test)}, each with {inside}'

  def compare(self, split: str, images: int) -> Comparison:
    """Compares a count with what the paper and the publishers say.

    Args:
      split: 'train' or 'test'.
      images: how many there are.

    Returns:
      The comparison.
    """
    said = [(count.by, getattr(count, split)) for count in self.counts]
    apart = [f'{by} has {number}' for by, number in said if number != images]
    text = f'{split} has {images} images; {", ".join(apart)}' if apart else ''
    return Comparison(text, bool(apart) and len(apart) == len(said))

  @property
  def instructions(self) -> str:
    """How to get it, for people."""
    links = '\n'.join(f'  {what}: {address}' for what, address in self.links)
    return (
      f'{self.title} is downloaded by hand:\n{links}\nUnpack it into a folder that holds the folders {self.layout}. '
      f'Licence: {self.licence}. Then: python -m lh_jax.data check FOLDER --dataset {self.name}'
    )


_UHDFORMER = 'UHDformer, https://github.com/supersupercong/UHDformer'
_UHDDIP = 'UHDDIP'

DATASETS = {
  dataset.name: dataset
  for dataset in (
    Dataset(
      name='uhd_ll',
      title='UHD-LL',
      task='low_light',
      counts=(Count(by='the paper', train=2000, test=115), Count(by='its publisher', train=2000, test=150)),
      links=(
        ('its publisher (UHDFour)', _drive_folder('1IneTwBsSiSSVXGoXQ9_hE1cO2d4Fd4DN')),
        _benchmark_copy('1O31UC6MJ3pHOIPLzXlqHqvcIwgfy18_f'),
      ),
    ),
    Dataset(
      name='uhd_blur',
      title='UHD-Blur',
      task='blur',
      clean=('gt', 'gt_new', 'gt300'),
      degraded=('input', 'input_new', 'input300'),
      counts=(Count(by='the paper and its publisher', train=1964, test=300),),
      links=(
        (f'its publisher ({_UHDFORMER})', _drive_folder('1O6JYkOELLhpEkirAnxUB2JGWMqgwVvmX')),
        _benchmark_copy('1-RCHHPMh95Pnm0Wj773QvKpNm9WoZV9l'),
      ),
    ),
    Dataset(
      name='uhd_haze',
      title='UHD-Haze',
      task='haze',
      counts=(Count(by='the paper and its publisher', train=2290, test=231),),
      links=(
        (f'its publisher ({_UHDFORMER})', _drive_folder('1PVCPkhqU_voPVFZj3FzAtUkJnQnF9lSa')),
        _benchmark_copy('10dFZZMep3k2p3r8houGkKevTw3XaVrtq'),
      ),
    ),
    Dataset(
      name='uhd_rain',
      title='UHD-Rain',
      task='rain',
      counts=(
        Count(by='the paper', train=2000, test=500),
        Count(by=f'its publisher ({_UHDDIP})', train=3000, test=200),
        Count(by='4K-Rain13k (UDR-Mixer)', train=12500, test=500),
      ),
      links=(
        (f'its publisher ({_UHDDIP})', _drive_folder('1LaQvEBdjH5MwTwkfCZh3UJUGl8mYfvke')),
        _benchmark_copy('1jkBnyVKND-f5WZ4mn8c7tnKPekB2qsxJ'),
        ('4K-Rain13k, which has 500 test images too', 'https://pan.baidu.com/s/1Kao-OjWNlgg2Jl0Jtl7e5Q?pwd=spfi'),
      ),
    ),
    Dataset(
      name='uhd_snow',
      title='UHD-Snow',
      task='snow',
      counts=(Count(by='the paper', train=2000, test=200), Count(by='its publisher', train=3000, test=200)),
      links=(
        (f'its publisher ({_UHDDIP})', _drive_folder('1LaQvEBdjH5MwTwkfCZh3UJUGl8mYfvke')),
        _benchmark_copy('1rsn-S5EDKo5yw-wlxCjrudx7ih056Ro8'),
      ),
    ),
    Dataset(
      name='uhd_noise',
      title='UHD-Noise',
      task='noise',
      degraded=(),
      counts=(Count(by='the paper and its publisher', train=2000, test=500),),
      links=(_benchmark_copy('1Ar8QYk2SNJi30RGCN5h-P_4cEytZ4fjD'),),
    ),
    Dataset(
      name='uhd_moire',
      title='UHD-moire',
      task='moire',
      degraded=('input', 'moire'),
      marks=('_gt', '_moire'),
      counts=(Count(by='its publisher (UHDM)', train=4500, test=500),),
      links=(('its publisher (UHDM, CVMI-Lab)', _drive_folder('1DyA84UqM7zf3CeoEBNmTi_dJ649x2e7e')),),
    ),
    # Some 750 000 pairs, of which the paper uses an "original" part that it does not count; so nothing is compared.
    Dataset(
      name='gends',
      title='GenDS',
      task=None,
      task_folders={
        'haze': 'haze',
        'rain': 'rain',
        'snow': 'snow',
        'motion_blur': 'blur',
        'raindrop': 'raindrop',
        'low_light': 'low_light',
      },
      counts=(),
      links=(('its publisher (GenDeg)', 'https://huggingface.co/datasets/Sudarshan2002/GenDS'),),
    ),
  )
}


def find(name: str) -> Dataset:
  """Looks a data set up.

  Args:
    name: one of `DATASETS`.

  Returns:
    The data set.

  Raises:
    ValueError: if the name is unknown.
  """
  if name not in DATASETS:
    raise ValueError(f'unknown data set {name!r}; known: {", ".join(DATASETS)}')
  return DATASETS[name]
