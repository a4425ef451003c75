"""What the devices of a compiled program send each other, read off its HLO text, and how long that takes at least."""

from __future__ import annotations

import collections
import dataclasses
import math
import re

import hlo_costs

KINDS = ('all-reduce', 'all-gather', 'reduce-scatter', 'collective-permute', 'all-to-all')
_LINE = re.compile(rf' = (.*?) ({"|".join(KINDS)})(-start)?\((.*)$')
_SOURCE = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective.

  Attributes:
    kind: one of `KINDS`.
    bytes: of one device's result; of its operand for a reduce-scatter.
    group: how many devices take part together.
    source: the model's operation that it comes from.
  """

  kind: str
  bytes: int
  group: int
  source: str

  @property
  def sent(self) -> float:
    """Bytes that a device sends at least, by a ring: all-reduce 2 (n-1)/n of the array, a permutation all of it, the
    others (n-1)/n.
    """
    if self.kind == 'collective-permute':
      return float(self.bytes)
    return (2 if self.kind == 'all-reduce' else 1) * self.bytes * (self.group - 1) / self.group


def collectives(text: str, devices: int) -> list[Collective]:
  """Returns the collectives in `Compiled.as_text()`, those in the body of a loop once.

  Args:
    text: of a program, as one device runs it.
    devices: that run it.
  """
  found = []
  for line in text.splitlines():
    if not (match := _LINE.search(line)):
      continue
    type_, kind, start, rest = match.groups()
    group = group_size(rest, devices)
    size = hlo_costs.type_bytes(re.sub(r'\b[us]32\[\]', '', type_))
    if start and kind == 'collective-permute':
      size //= 2  # Operand and result.
    elif start and kind == 'all-gather':
      size = size * group // (group + 1)  # Likewise.
    elif kind == 'reduce-scatter':
      size *= group
    source = _SOURCE.search(rest)
    found.append(Collective(kind, size, group, source.group(1) if source else ''))
  return found


def group_size(attributes: str, devices: int) -> int:
  """Returns how many devices a collective joins, from the three ways in which HLO writes its replica groups."""
  if match := re.search(r'replica_groups=\{\{([\d,]+)\}', attributes):
    return len(match.group(1).split(','))
  if match := re.search(r'replica_groups=\[\d+,(\d+)\]<=', attributes):
    return int(match.group(1))
  if match := re.search(r'replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}', attributes):
    sides = dict(re.findall(r"'?([\w.]+)'?=(\d+)", match.group(1)))
    return math.prod(int(sides[axis]) for axis in re.findall(r"'([\w.]+)'", match.group(2)))
  return devices


def totals(found: list[Collective]) -> dict[str, dict[str, int]]:
  """Returns {kind: {'count', 'bytes', 'sent'}} of the kinds that occur, bytes of one device."""
  result = {}
  for kind in KINDS:
    if some := [c for c in found if c.kind == kind]:
      result[kind] = {
        'count': len(some),
        'bytes': sum(c.bytes for c in some),
        'sent': round(sum(c.sent for c in some)),
      }
  return result


def largest(found: list[Collective], count: int) -> list[dict[str, object]]:
  """Returns the collectives that send most, those of one kind, size and source joined."""
  same = collections.Counter((c.kind, c.bytes, c.source[-90:]) for c in found)
  order = sorted(same, key=lambda key: -key[1] * same[key])
  return [dict(zip(('kind', 'bytes', 'source'), key)) | {'count': same[key]} for key in order[:count]]
