"""Main Table 4 and Supp. Table 4: the four-degradation model on degradations that it has not been trained on.

  python experiments/table4.py --scale=smoke
  python experiments/table4.py --scale=paper --data=DATA

Rain, snow and moire are new to it; the mixtures low_light+noise25, haze+low_light and noise25+blur are new as mixtures.
The model is that of Table 1 (configs/generalization.py changes what is evaluated, not what is trained). The result
holds the whole of Supp. Table 4, with the other methods' published numbers.

Paper's claim: the best of all methods on all six. At paper scale the mixtures add the second degradation, synthesised,
to the real images of the first: the paper does not say how it made its own. Below it, the inputs are synthesised and
are told beside the restored images: they may be better than the paper's outputs.
"""

from __future__ import annotations

import runs
import tables


def main(arguments: list[str] | None = None) -> None:
  """Trains the model where it is missing, measures it, and writes the result."""
  options = runs.parser(__doc__).parse_args(arguments)
  published = runs.published('supp_table4')['rows']
  measured = runs.evaluate(runs.restorer(runs.train('full', options)), (*runs.UNSEEN, *runs.COMPOSITES), options)
  rows, trends = tables.beside(measured, tables.of_method(published)), tables.improvements(options, measured)
  summary = {
    'item': 'Table 4, Supp. Table 4',
    'paper': tables.listing({row['task']: row['psnr paper'] for row in rows[:-1]}),
    'ours': '; '.join(
      f'{column}: {tables.listing({row["task"]: row[f"psnr {column}"] for row in rows[:-1]})}'
      for column in ('restored', 'input')
    ),
    'why': tables.why(options, trends),
  }
  result = {'rows': rows, 'measured': measured, 'trends': trends, 'summary': summary, 'published': published}
  runs.write(options, 'table4', result, tables.bars(rows, tables.PSNR_BARS, label='task', axis='PSNR Y, dB'))


if __name__ == '__main__':
  runs.run(main)
