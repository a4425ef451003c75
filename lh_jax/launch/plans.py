"""What would be launched, as text and as a process: one command, what it reads, and what the user should know.

Templates are files in `templates/` with placeholders in double braces, such as {{name}}; a line that is nothing but an
empty placeholder disappears.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.resources
import re
import shlex
import subprocess

NAME = re.compile(r'[a-z]([-a-z0-9]{0,38}[a-z0-9])?')
MODULE = re.compile(r'[A-Za-z_]\w*(\.[A-Za-z_]\w*)*')
VARIABLE = re.compile(r'[A-Za-z_][A-Za-z0-9_]*')
PLACEHOLDER = re.compile(r'\{\{(\w+)\}\}')
END = 'LH_JAX_END'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """One command that launches everything.

  Attributes:
    argv: the command.
    text: its standard input.
    notes: what to know afterwards: logs, stopping, starting again.
  """

  argv: list[str]
  text: str | None = None
  notes: list[str] = dataclasses.field(default_factory=list)

  def shell(self) -> str:
    """Returns what does the same when it is pasted into a shell."""
    lines = [*(f'# {note}' for note in self.notes), shlex.join(self.argv)]
    if self.text is not None:
      lines[-1] += f" <<'{END}'\n{self.text}{END}"
    return '\n'.join(lines)

  def start(self) -> int:
    """Runs the command and returns its exit code.

    Raises:
      ValueError: the program is not installed.
    """
    print('\n'.join(self.notes), flush=True)
    try:
      return subprocess.run(self.argv, input=self.text, text=True, check=False).returncode
    except FileNotFoundError:
      raise ValueError(
        f'{self.argv[0]} is not installed on this machine; --dry-run prints what it would be given.'
      ) from None


def render(template: str, **values: object) -> str:
  """Fills in a template.

  Args:
    template: name of a file in `templates/`.
    **values: one for each placeholder.

  Raises:
    ValueError: placeholders and values are not the same.
  """
  text = (importlib.resources.files('lh_jax.launch') / 'templates' / template).read_text(encoding='utf-8')
  wanted = set(PLACEHOLDER.findall(text))
  if wanted != set(values):
    raise ValueError(f'{template} has other placeholders than values: {sorted(wanted ^ set(values))}')
  lines = []
  for line in text.splitlines():
    filled = PLACEHOLDER.sub(lambda match: str(values[match[1]]), line)
    if filled.strip() or not line.strip():
      lines.append(filled)
  return '\n'.join(lines) + '\n'


def check_line(text: str) -> str:
  """Returns `text`, which becomes part of one line of a script.

  Raises:
    argparse.ArgumentTypeError: it is more than one line.
  """
  if any(character in text for character in '\n\r\0'):
    raise argparse.ArgumentTypeError(f'scripts cannot hold line breaks within an argument; got {text!r}')
  return text


def check_name(text: str) -> str:
  """Returns a name of a run that SLURM, Kubernetes and file systems take.

  Raises:
    argparse.ArgumentTypeError: it is none.
  """
  if not NAME.fullmatch(text):
    raise argparse.ArgumentTypeError(
      f'a name has up to 40 lower-case letters, digits and dashes, a letter first and no dash last; got {text!r}'
    )
  return text


def check_module(text: str) -> str:
  """Returns the name of a Python module.

  Raises:
    argparse.ArgumentTypeError: it is none.
  """
  if not MODULE.fullmatch(text):
    raise argparse.ArgumentTypeError(f'modules are named as in lh_jax.main; got {text!r}')
  return text


def check_variable(text: str) -> tuple[str, str]:
  """Returns name and value of an environment variable, NAME=VALUE.

  Raises:
    argparse.ArgumentTypeError: it is none.
  """
  name, equals, value = check_line(text).partition('=')
  if not equals or not VARIABLE.fullmatch(name):
    raise argparse.ArgumentTypeError(f'environment variables are given as NAME=VALUE; got {text!r}')
  return name, value


def check_positive(text: str) -> int:
  """Returns an integer above zero.

  Raises:
    argparse.ArgumentTypeError: it is none.
  """
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'a number from 1 on is wanted here; got {text!r}')
  return int(text)


def or_exit(command: str) -> str:
  """Returns a shell line that runs a command, which may be none, and ends the script where it fails."""
  return f'{{ {command}; }} || exit' if command else ''


def exports(variables: list[tuple[str, str]]) -> str:
  """Returns shell lines that set environment variables."""
  return '\n'.join(f'export {name}={shlex.quote(value)}' for name, value in variables)


def workdir(arguments: list[str]) -> str:
  """Returns the value of --workdir among the arguments of `lh_jax.main`, or ''."""
  found = ''
  for argument, following in zip(arguments, [*arguments[1:], '']):
    if argument in ('--workdir', '-workdir'):
      found = following
    elif argument.startswith(('--workdir=', '-workdir=')):
      found = argument.partition('=')[2]
  return found
