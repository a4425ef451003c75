"""What `python -m lh_jax.convert` knows: the families of networks, and how a file of each becomes our parameters.

A network is an entry of `published.FILES`; its family, an entry here, has the converter and the shapes to convert to.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import pathlib

import jax

from lh_jax import weight_files
from lh_jax.convert import clip
from lh_jax.convert import dinov2
from lh_jax.convert import frequency_vae
from lh_jax.convert import inception
from lh_jax.convert import layouts as layouts_lib
from lh_jax.convert import lpips
from lh_jax.convert import mae
from lh_jax.convert import pickle_reader
from lh_jax.convert import restorers
from lh_jax.convert import sam
from lh_jax.convert import siglip
from lh_jax.convert import tensor_files
from lh_jax.convert import vgg16
from lh_jax.models import foundation
from lh_jax.models import inception as inception_model
from lh_jax.models import lpips as lpips_model
from lh_jax.models import vae
from lh_jax.models.restorers import pixel

Tree = weight_files.Tree


@dataclasses.dataclass(frozen=True)
class Family:
  """Networks with one converter.

  Attributes:
    abstract: name of the network -> shapes and dtypes of the converted tree.
    convert: (name, published file, abstract tree) -> converted tree.
    packaged: name -> the file inside an installed package; None where there is no such package.
  """

  abstract: Callable[[str], Tree]
  convert: Callable[[str, pathlib.Path, Tree], Tree]
  packaged: Callable[[str], pathlib.Path] | None = None


def by_layouts(layouts: tuple[layouts_lib.Layout, ...]) -> Callable[[str, pathlib.Path, Tree], Tree]:
  """Makes a converter of tables of names.

  Args:
    layouts: the layouts in which the family is published.

  Returns:
    A `Family.convert`.
  """
  return lambda name, source, like: layouts_lib.convert(tensor_files.read(source), like, layouts)


def _foundation(name: str) -> Tree:
  return foundation.build(name).abstract_params()


def _vae(name: str) -> Tree:
  return jax.eval_shape(vae.build(preset=name.removesuffix('_vae')).init, jax.random.key(0))


def _net(name: str) -> str:
  return name.removeprefix('lpips_')


# The transformers among the foundation models.
LAYOUTS = {
  'dinov2': dinov2.LAYOUTS,
  'mae': mae.LAYOUTS,
  'clip': clip.LAYOUTS,
  'siglip': siglip.LAYOUTS,
  'sam': sam.LAYOUTS,
}

FAMILIES: dict[str, Family] = {
  **{family: Family(_foundation, by_layouts(layouts)) for family, layouts in LAYOUTS.items()},
  'frequency_vae': Family(_vae, by_layouts(frequency_vae.LAYOUTS)),
  'vgg16': Family(
    _foundation,
    lambda name, source, like: vgg16.convert(pickle_reader.read_numpy_pickle(source), like),
    lambda name: vgg16.default_source(),
  ),
  'lpips': Family(
    lambda name: lpips_model.abstract_params(lpips_model.NETWORKS[_net(name)]),
    lambda name, source, like: lpips.convert(_net(name), pickle_reader.read_numpy_pickle(source), like),
    lambda name: lpips.default_source(_net(name)),
  ),
  'inception': Family(
    lambda name: inception_model.abstract_variables(),
    lambda name, source, like: inception.convert(tensor_files.read(source), like),
  ),
  'restorers': Family(
    lambda name: pixel.abstract_variables(pixel.build(name)),
    lambda name, source, like: restorers.convert(tensor_files.read(source), pixel.build(name)),
  ),
}
