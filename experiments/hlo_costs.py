"""Costs of a compiled program, read off its optimised HLO text: operations, bytes moved, largest live buffers.

`Compiled.cost_analysis()` gives nothing for a program compiled for an absent GPU, and would miss the convolutions that
became cuDNN calls. Counted here, per kernel (an instruction of the entry computation):
- operations of convolutions, matrix products and Fourier transforms (5 N log2 N, half of it for real input), by the
  unit that runs them: `bf16` and `tf32` tensor cores by operand type, `fp32` for depthwise convolutions and transforms.
  Elementwise arithmetic is not counted; it hides behind the memory traffic of its kernel.
- bytes: every operand read once, every result written once; a fusion that only slices an operand reads the slices.
  A lower bound: a kernel that does not fit the caches reads its input more than once.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import re

UNITS = ('bf16', 'tf32', 'fp32')
# Renames of a buffer, not kernels.
VIEWS = ('bitcast', 'get-tuple-element', 'tuple')
FREE = (*VIEWS, 'parameter', 'constant', 'iota')
_BYTES = {'pred': 1, 'c64': 8, 'c128': 16}
_ARRAY = re.compile(r'(\w+)\[([\d,]*)\]')
_INSTRUCTION = re.compile(r'^\s+(ROOT )?%?([\w.\-]+) = (.*)$')
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of HLO: name, result type, opcode, what stands in its parentheses, and the rest (attributes, metadata)."""

  name: str
  type: str
  opcode: str
  arguments: str
  rest: str
  root: bool

  @property
  def operands(self) -> list[str]:
    """Names of the instructions that it reads."""
    return re.findall(r'%([\w.\-]+)', self.arguments)

  @property
  def bytes(self) -> int:
    """Size of the result."""
    return type_bytes(self.type)

  def attribute(self, name: str) -> str | None:
    """Returns the value after `name=`, as written."""
    found = re.search(rf'\b{name}=(\{{[^}}]*\}}|"[^"]*"|[^,\s]+)', self.rest)
    return found.group(1) if found else None


@dataclasses.dataclass(frozen=True)
class Kernel:
  """What one kernel costs; `operations` maps each of UNITS to floating-point operations."""

  name: str
  operations: dict[str, float]
  bytes: int


@dataclasses.dataclass(frozen=True)
class Buffer:
  """A live buffer: bytes, type, and the model's operation that made it."""

  bytes: int
  type: str
  source: str


class Module:
  """A parsed module: `computations` by name, `entry` the scheduled instructions of the program."""

  def __init__(self, text: str):
    """Parses `Compiled.as_text()`.

    Raises:
      ValueError: there is no entry computation.
    """
    self.computations: dict[str, dict[str, Instruction]] = {}
    entry = None
    for line in text.splitlines():
      if header := _COMPUTATION.match(line):
        current = self.computations[header.group(2)] = {}
        entry = current if header.group(1) else entry
      elif body := _INSTRUCTION.match(line):
        instruction = _parse(*body.groups())
        current[instruction.name] = instruction
    if entry is None:
      raise ValueError(f'No entry computation in {len(text)} characters; give the text of a compiled program.')
    self.entry = entry

  def kernels(self) -> list[Kernel]:
    """Returns the costs of every kernel, in the order of the schedule."""
    return [
      Kernel(i.name, dict(self._operations(i, self.entry)), self._traffic(i))
      for i in self.entry.values()
      if i.opcode not in FREE
    ]

  def live_at_peak(self) -> list[Buffer]:
    """Returns the intermediate and result buffers alive at once when they are largest, largest first.

    A buffer lives from the kernel that makes it to the last that reads it; parameters are left out.
    """
    order = list(self.entry.values())
    origin = {i.name: {i.name} for i in order}
    last: dict[str, int] = {}
    for position, i in enumerate(order):
      if i.opcode in VIEWS:
        origin[i.name] = set().union(*(origin[name] for name in i.operands))
      for name in origin[i.name] if i.root else set().union(*(origin[o] for o in i.operands)):
        last[name] = len(order) if i.root else position
    best: list[Instruction] = []
    alive: list[Instruction] = []
    for position, i in enumerate(order):
      if i.opcode not in FREE:
        alive.append(i)
      if sum(b.bytes for b in alive) > sum(b.bytes for b in best):
        best = list(alive)
      alive = [b for b in alive if last.get(b.name, position) > position]
    return [Buffer(b.bytes, re.sub(r'\{[\d,]*\}', '', b.type), self._source(b)) for b in _by_size(best)]

  def _source(self, instruction: Instruction) -> str:
    name = instruction.attribute('op_name')
    called = self.computations.get((instruction.attribute('calls') or '').lstrip('%'), {})
    inside = [i.attribute('op_name') for i in called.values() if i.attribute('op_name')]
    return (name or (inside[-1] if inside else instruction.name)).strip('"')

  def _called(self, instruction: Instruction) -> list[dict[str, Instruction]]:
    names = (instruction.attribute(key) for key in ('calls', 'to_apply'))
    return [self.computations[name.lstrip('%')] for name in names if name]

  def _operations(self, instruction: Instruction, scope: dict[str, Instruction]) -> collections.Counter[str]:
    total: collections.Counter[str] = collections.Counter()
    if instruction.opcode == 'while':
      raise ValueError(f'{instruction.name} is a loop whose length HLO does not tell; compile one turn of it instead.')
    if instruction.opcode in ('convolution', 'dot', 'fft') or '__cudnn$conv' in instruction.rest:
      unit, count = _arithmetic(instruction, [scope[name].type for name in instruction.operands])
      total[unit] += count
    elif '__cublas$' in instruction.rest:
      raise ValueError(f'{instruction.name} is a matrix product by cuBLAS, which is not counted; add it to hlo_costs.')
    for computation in self._called(instruction):
      for inner in computation.values():
        total += self._operations(inner, computation)
    return total

  def _traffic(self, instruction: Instruction) -> int:
    total = instruction.bytes
    called = self._called(instruction) if instruction.opcode == 'fusion' else []
    for index, operand in enumerate(instruction.operands):
      size = self.entry[operand].bytes
      if called:
        size = min(size, _bytes_read(called[0], index, size))
      total += size
    return total


def type_bytes(text: str) -> int:
  """Returns the bytes of an array type, 'bf16[2,3]{1,0}', or of a tuple of them."""
  total = 0
  for element, sides in _ARRAY.findall(text):
    width = _BYTES.get(element) or max(int(re.sub(r'\D*(\d+).*', r'\1', element)) // 8, 1)
    total += width * math.prod(int(side) for side in sides.split(',') if side)
  return total


def _by_size(instructions: list[Instruction]) -> list[Instruction]:
  return sorted(instructions, key=lambda i: -i.bytes)


def _closing(text: str, start: int) -> int:
  """Index of the parenthesis that closes the one at `start`."""
  depth = 0
  for index in range(start, len(text)):
    depth += {'(': 1, ')': -1}.get(text[index], 0)
    if not depth:
      return index
  raise ValueError(f'Unbalanced parentheses in the HLO line {text!r}.')


def _parse(root: str | None, name: str, text: str) -> Instruction:
  end = _closing(text, 0) + 1 if text.startswith('(') else text.index(' ')
  opening = text.index('(', end)
  closing = _closing(text, opening)
  opcode, arguments = text[end:opening].strip(), text[opening + 1 : closing]
  return Instruction(name, text[:end], opcode, arguments, text[closing + 1 :], bool(root))


def _shape(text: str) -> tuple[str, list[int]]:
  """Element type and sides of the first array of a type."""
  element, sides = _ARRAY.findall(text)[0]
  return element, [int(side) for side in sides.split(',') if side]


def _arithmetic(instruction: Instruction, operands: list[str]) -> tuple[str, float]:
  """Unit and floating-point operations of a convolution, matrix product or Fourier transform."""
  element, left = _shape(operands[0])
  _, result = _shape(instruction.type)
  unit = 'bf16' if element in ('bf16', 'f16') else 'tf32'
  if instruction.opcode == 'fft':
    _, sides = _shape(operands[0] if element.startswith('f') else instruction.type)
    length = math.prod(json.loads(instruction.attribute('fft_length').replace('{', '[').replace('}', ']')))
    real = instruction.attribute('fft_type') != 'FFT' and instruction.attribute('fft_type') != 'IFFT'
    return 'fp32', (2.5 if real else 5.0) * math.prod(sides) * math.log2(length)
  if instruction.opcode == 'dot':
    axes = [int(axis) for axis in re.findall(r'\d+', instruction.attribute('lhs_contracting_dims'))]
    return unit, 2.0 * math.prod(result) * math.prod(left[axis] for axis in axes)
  _, kernel = _shape(operands[1])
  labels = re.search(r'_(\w+)->', instruction.attribute('dim_labels')).group(1)
  depthwise = kernel[labels.index('i')] == 1 and int(instruction.attribute('feature_group_count') or 1) > 1
  count = 2.0 * math.prod(result) * math.prod(kernel) / kernel[labels.index('o')]
  return 'fp32' if depthwise else unit, count


def _bytes_read(computation: dict[str, Instruction], index: int, size: int) -> int:
  """Bytes that a fusion reads of its operand `index`: its slices where it does nothing else with it."""
  parameter = next(i.name for i in computation.values() if (i.opcode, i.arguments) == ('parameter', str(index)))
  users = [i for i in computation.values() if parameter in i.operands]
  if users and all(user.opcode in ('slice', 'dynamic-slice') for user in users):
    return sum(user.bytes for user in users)
  return size
