"""Main Table 1: one model for low light, haze, blur and noise at sigma 15, 25 and 50.

  python experiments/table1.py --scale=smoke
  python experiments/table1.py --scale=paper --data=DATA

Paper's claim: the best average of all methods, 29.70 dB (UHDprocesser 29.23). The average is over six columns, of which
three are noise. Beside each value stands VAE(clean), which no restoration through the latent can pass.

The paper's columns of parameters and FLOPs are counted on the model that was measured. Its column FS, whether a whole
4K image fits an RTX 3090, is read from the result of `aot_gpu.py`, if that is of the same networks.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

import aot_gpu
from lh_jax import networks as networks_lib
from lh_jax.models import summary as summary_lib
import records
import runs
import tables


def main(arguments: list[str] | None = None) -> None:
  """Trains the model where it is missing, measures it, and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  settings_table(options, 'table1', variant='full', item='Table 1', tasks=runs.TASKS)


def multiply_adds(networks: networks_lib.Networks, height: int, width: int) -> int:
  """Returns the multiply-adds of restoring one image, as the paper's FLOPs are counted."""
  params = jax.eval_shape(networks.init, jax.random.key(0))
  image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
  return summary_lib.multiply_adds(lambda params, image: networks.restore(params, image, 0.5), params, image)


def full_size(networks: networks_lib.Networks, file: pathlib.Path) -> dict[str, Any]:
  """Looks up whether a whole 4K image fits the paper's card.

  Args:
    networks: of the model in question.
    file: what `aot_gpu.py` has written.

  Returns:
    'fits', None where it cannot be told, and 'why'.
  """
  card, image = aot_gpu.PAPER_CASE
  if not file.is_file():
    return {'fits': None, 'why': f'there is no {file.name}: run aot_gpu.py'}
  report = json.loads(file.read_text(encoding='utf-8'))
  wanted = {'card': card, 'size': image, 'mode': 'whole'}
  found = next((row for row in report['programs'] if wanted.items() <= row.items()), None)
  if found is None:
    return {'fits': None, 'why': f'{file.name} has no whole {image} image on {card}'}
  if found['model_operations'] != 2 * multiply_adds(networks, *aot_gpu.SIZES[image]):
    return {'fits': None, 'why': f'{file.name} is of other networks'}
  memory = next(entry['memory_gib'] for entry in report['cards'].values() if entry['title'] == card)
  why = (
    f'compiled for {card}, not run, {report["dtype"]}: {found["peak_bytes"] / 2**30:.2f} of {memory} GiB, beside what '
    'the CUDA context, cuDNN and cuFFT take'
  )
  return {'fits': found['peak_bytes'] < memory * 2**30, 'why': why}


def size(networks: networks_lib.Networks) -> dict[str, Any]:
  """Returns what Table 1 tells of a model itself.

  Args:
    networks: of the model.

  Returns:
    'parameters', without the LoRA branches, which are merged; 'multiply_adds' of a 256 x 256 image; 'full_size', as
    from the function of that name.
  """
  params = jax.eval_shape(networks.init, jax.random.key(0))
  return {
    'parameters': summary_lib.parameters({name: params[name] for name in ('vae', 'restorer')}),
    'multiply_adds': multiply_adds(networks, 256, 256),
    'full_size': full_size(networks, records.HERE / 'results' / 'aot_gpu.json'),
  }


def size_line(parameters: float, counted: float, fits: bool | None) -> str:
  """Returns the size of a model as short text, from its columns in the table."""
  words = {True: '4K fits 24 GB', False: '4K does not fit 24 GB', None: '4K on 24 GB unknown'}
  return f'{parameters / 1e6:.2f} M parameters, {counted / 1e9:.2f} G multiply-adds, {words[fits]}'


def settings_table(options, name: str, *, variant: str, item: str, tasks: tuple[str, ...]) -> None:
  """Writes the table of one all-in-one setting; with the size of the model where the paper tells its own.

  Args:
    options: of `runs.parser`.
    name: of the result, and of the paper's numbers.
    variant: the model.
    item: the table, for people.
    tasks: its columns.
  """
  paper = tables.of_method(runs.published(name)['rows'])
  model = runs.restorer(runs.train(variant, options))
  measured = runs.evaluate(model, tasks, options)
  rows, trends = tables.beside(measured, paper), tables.improvements(options, measured)
  told = paper['average']
  summary = {
    'item': item,
    'paper': 'average ' + tables.number_line(told['psnr'], told['ssim'], told['lpips']),
    'ours': f'average {tables.headline(measured[-1])}, input {tables.headline(measured[-1], "input")}',
    'why': tables.why(options, trends),
  }
  result = {'rows': rows, 'measured': measured, 'trends': trends, 'summary': summary}
  if 'parameters' in told:
    ours = size(model.programs.networks)
    fits = ours['full_size']['fits']
    result['size'] = {'paper': {column: told[column] for column in ours}, 'ours': ours}
    summary['paper'] += f'; {size_line(*result["size"]["paper"].values())}'
    summary['ours'] += f'; {size_line(ours["parameters"], ours["multiply_adds"], fits)}'
    summary['ours'] += ' (compiled, not run)' * (fits is not None)
  runs.write(options, name, result, tables.bars(rows, tables.PSNR_BARS, label='task', axis='PSNR Y, dB'))


if __name__ == '__main__':
  runs.run(main)
