"""Command line of the converter: `python -m lh_jax.convert NAME [SOURCE] [OUT]` or `NAME --fetch [OUT]`.

Exit status: 0 done, or nothing to do; 1 the conversion failed; 2 a usage error; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys

from lh_jax import convert
from lh_jax import progress
from lh_jax import published
from lh_jax import weight_files
from lh_jax.convert import fetch

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
  """Runs the converter.

  Args:
    arguments: command-line arguments without the program's name; None takes those of the process.

  Returns:
    Exit status.
  """
  parser = argparse.ArgumentParser(
    prog='python -m lh_jax.convert',
    description='Convert published weights of a foundation model, a restorer or a metric to the safetensors file that '
    'lh_jax reads.',
  )
  parser.add_argument('name', metavar='NAME', choices=convert.NAMES, help=f'one of {", ".join(convert.NAMES)}')
  parser.add_argument(
    'source',
    metavar='SOURCE',
    nargs='?',
    help='published file: the official one or the Hugging Face .safetensors; for '
    f'{", ".join(convert.PACKAGED)}, by default, the one inside the installed package',
  )
  parser.add_argument(
    'out', metavar='OUT', nargs='?', help=f'file to write; default {weight_files.default_path("NAME")}'
  )
  parser.add_argument('--fetch', action='store_true', help='download SOURCE from its official address')
  parser.add_argument('--overwrite', action='store_true', help='replace OUT when it was made from something else')
  options = parser.parse_intermixed_args(arguments)
  source, out, address = options.source, options.out, ''
  if options.fetch:
    if options.name in convert.PACKAGED or out is not None:
      parser.error(f'--fetch takes the place of SOURCE: {convert.how_to_get(options.name)}')
    # What follows the name is OUT then.
    source, out = None, source
  try:
    convert.check_places(options.name, source, out)
  except ValueError as error:
    parser.error(str(error))
  if not options.fetch and source is None and options.name not in convert.PACKAGED:
    parser.error(f'{options.name} needs SOURCE. {convert.how_to_get(options.name)}')
  try:
    if options.fetch:
      if convert.is_fetched_already(options.name, out, overwrite=options.overwrite):
        print(f'{out or weight_files.default_path(options.name)} is already converted from there; nothing to do')
        return 0
      source, address = fetch.fetch(options.name, shown=progress.wanted())
    out, written = convert.convert_file(options.name, source, out, overwrite=options.overwrite, address=address)
  except (OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('interrupted; what has been downloaded is kept: run the command again to go on', file=sys.stderr)
    return INTERRUPTED
  if options.fetch and not published.FILES[options.name].digest:
    digest = fetch.checksum(source, 'sha256')
    print(f'{source}: sha256 {digest}, recorded in OUT; its publisher states none to compare it with')
  print(f'wrote {out}' if written else f'{out} is already converted from this source; nothing to do')
  return 0


if __name__ == '__main__':
  sys.exit(main())
