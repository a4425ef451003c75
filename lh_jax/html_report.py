"""A report for people: one HTML file with the table, the protocol, and sliders over the worst images.

Contract: the page holds everything itself, and its content policy forbids every network access. Pictures are JPEG
copies, for looking only: every number was computed on the pixels that were written. A whole image is shown at most
`WHOLE` pixels wide; of a larger one, the square in which the restored image differs most from the reference is shown
beside it pixel by pixel. All pictures together take at most `MAX_BYTES`; the page says how many images it leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import html
import string
from typing import Any

import numpy as np

from lh_jax.data import thumbnails

WHOLE = 896  # pixels
PART = 384
MAX_BYTES = 24 * 2**20


@dataclasses.dataclass(frozen=True)
class Case:
  """One image in the report.

  Attributes:
    group: what it belongs to, such as its task.
    name: its name in its data set.
    rank: the smaller, the worse it came out.
    caption: its values, for people.
    size: pixels (height, width).
    whole: JPEG files by the title of the view, the reference last.
    part: likewise, the square at full resolution; empty where `whole` is at full resolution.
  """

  group: str
  name: str
  rank: float
  caption: str
  size: tuple[int, int]
  whole: Mapping[str, bytes]
  part: Mapping[str, bytes]

  @property
  def page_bytes(self) -> int:
    """What its pictures take in the page, in base64."""
    return sum(-(-len(data) // 3) * 4 for view in (self.whole, self.part) for data in view.values())


def case(images: Mapping[str, np.ndarray], *, restored: str, group: str, name: str, rank: float, caption: str) -> Case:
  """Makes the pictures of one image.

  Args:
    images: (H, W, 3) uint8 by the title of the view, the reference last.
    restored: the title of the one whose errors are looked for.
    group, name, rank, caption: see `Case`.
  """
  reference = list(images.values())[-1]
  part = {}
  if reference.shape[1] > WHOLE:
    place = thumbnails.worst_place(images[restored], reference, PART)
    part = {title: thumbnails.jpeg(thumbnails.window(image, place, PART)) for title, image in images.items()}
  whole = {title: thumbnails.jpeg(thumbnails.shrunk(image, WHOLE)) for title, image in images.items()}
  return Case(group, name, rank, caption, reference.shape[:2], whole, part)


class Worst:
  """The worst few images of every group, kept while the others pass."""

  def __init__(self, count: int):
    """Keeps up to `count` of every group."""
    self._count = count
    self._kept: dict[str, list[Case]] = {}

  def wants(self, group: str, rank: float) -> bool:
    """Whether an image of this rank would be kept, so that pictures of the others need not be made."""
    kept = self._kept.get(group, [])
    return len(kept) < self._count or (self._count > 0 and rank < kept[-1].rank)

  def add(self, found: Case) -> None:
    """Takes an image in, and drops what is no longer among the worst of its group."""
    kept = [*self._kept.get(found.group, []), found]
    self._kept[found.group] = sorted(kept, key=lambda one: (one.rank, one.name))[: self._count]

  def cases(self) -> list[Case]:
    """Returns the images, group by group, the worst of each first; the group with the worst image comes first."""
    groups = [kept for kept in self._kept.values() if kept]
    return [one for kept in sorted(groups, key=lambda kept: kept[0].rank) for one in kept]


def within_budget(cases: Sequence[Case], limit: int = MAX_BYTES) -> list[Case]:
  """Returns those cases whose pictures fit into `limit` bytes, in the same order.

  Every group's worst image goes before any group's second, so that no group is left out for the sake of another.
  """
  seen: dict[str, int] = {}
  turns = []
  for index, one in enumerate(cases):
    turns.append((seen.get(one.group, 0), index))
    seen[one.group] = seen.get(one.group, 0) + 1
  kept, used = set(), 0
  for _, index in sorted(turns):
    used += cases[index].page_bytes
    if used > limit:
      break
    kept.add(index)
  return [one for index, one in enumerate(cases) if index in kept]


def page(
  *,
  title: str,
  facts: Mapping[str, Any],
  header: Sequence[str],
  lines: Sequence[Sequence[str]],
  note: str,
  cases: Sequence[Case],
  count: int,
) -> str:
  """Returns the page.

  Args:
    title: its heading.
    facts: what the result was made with, by name.
    header: of the table.
    lines: of the table, cell by cell.
    note: below the table.
    cases: the images to show, the worst first; `within_budget` decides how many.
    count: how many images were scored, of which `cases` are some.
  """
  cases = within_budget(cases)
  cells = ''.join(f'<tr>{_cells("td", line)}</tr>\n' for line in lines)
  groups = dict.fromkeys(one.group for one in cases)
  shown = ''.join(
    f'<h2>{_safe(group)}, worst first</h2>\n' + ''.join(_figure(one) for one in cases if one.group == group)
    for group in groups
  )
  return _PAGE.substitute(
    title=_safe(title),
    facts=''.join(f'<dt>{_safe(name)}</dt><dd>{_safe(value)}</dd>\n' for name, value in facts.items()),
    table=f'<table>\n<thead><tr>{_cells("th", header)}</tr></thead>\n<tbody>\n{cells}</tbody>\n</table>',
    note=_safe(note),
    bound=f'{len(cases)} of {count} scored images are shown, the worst of each group; pictures are JPEG copies that '
    f'take at most {MAX_BYTES // 2**20} MiB, and every number was computed on the original pixels.',
    cases=shown,
  )


def provenance(report: Mapping[str, Any]) -> dict[str, str]:
  """Returns the facts that every result states, from its 'protocol', versions and device."""
  protocol = report['protocol']
  return {
    'protocol': f'{protocol["name"]}, version {protocol["version"]}',
    'reproduces': protocol['reproduces'],
    'departs': protocol['departs'] or 'nowhere known',
    'made with': f'lh_jax {report["lh_jax"]}, jax {report["jax"]} on {report["device"]}',
  }


def _safe(value: Any) -> str:
  # A file's name need not be valid Unicode.
  return html.escape(str(value).encode('utf-8', 'backslashreplace').decode('utf-8'))


def _cells(tag: str, line: Sequence[str]) -> str:
  return ''.join(f'<{tag}>{_safe(cell)}</{tag}>' for cell in line)


def _figure(one: Case) -> str:
  titles = list(one.whole)
  left, right = titles[0], titles[1]
  height, width = one.size
  choices = ''.join(
    f'<label>{side} <select data-side="{side}">'
    + ''.join(f'<option{" selected" if title == chosen else ""}>{_safe(title)}</option>' for title in titles)
    + '</select></label>\n'
    for side, chosen in (('left', left), ('right', right))
  )
  sliders = _slider(one, one.whole, left, right, f'whole image, {width} x {height} pixels')
  if one.part:
    sliders += _slider(one, one.part, left, right, 'full resolution, where the restored image errs most')
  return (
    f'<figure>\n<figcaption><b>{_safe(one.name)}</b><br>{_safe(one.caption)}</figcaption>\n'
    f'<div class="choices">{choices}</div>\n<div class="sliders">{sliders}</div>\n</figure>\n'
  )


def _slider(one: Case, views: Mapping[str, bytes], left: str, right: str, what: str) -> str:
  images = ''.join(
    f'<img data-view="{_safe(title)}" class="{"left" if title == left else "right" if title == right else ""}" '
    f'alt="{_safe(title)} of {_safe(one.name)}" src="{thumbnails.data_uri(data)}">\n'
    for title, data in views.items()
  )
  return (
    f'<div><div class="slider">\n{images}<i></i><input type="range" min="0" max="100" value="50" step="0.1" '
    f'aria-label="{_safe(one.name)}: share of the left picture"></div><small>{what}</small></div>\n'
  )


_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1600px; padding: 0 1em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15em 1em; }
dt { opacity: .7; }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #8886; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1.5em 0 2.5em; }
.choices { margin: .4em 0; }
.choices label { margin-right: 1em; }
.sliders { display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start; }
.slider { position: relative; --at: 50%; width: fit-content; max-width: 100%; }
.slider:focus-within { outline: 2px solid Highlight; }
.slider img { display: none; max-width: 100%; }
.slider .right { display: block; }
.slider .left { display: block; position: absolute; inset: 0; z-index: 1;
 clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.slider .left.right { position: static; clip-path: none; }
.slider i { position: absolute; z-index: 2; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px;
 background: #fff; box-shadow: 0 0 3px #000; }
.slider input { position: absolute; inset: 0; z-index: 3; width: 100%; height: 100%; margin: 0; opacity: 0;
 cursor: ew-resize; }
</style>
</head>
<body>
<h1>$title</h1>
<dl>
$facts</dl>
<div class="wide">
$table
</div>
<p>$note</p>
<p>$bound Drag over a picture, or use the arrow keys, to compare; the menus choose what is compared.</p>
$cases<script>
for (const figure of document.querySelectorAll('figure')) {
  for (const range of figure.querySelectorAll('input')) {
    range.addEventListener('input', () => range.parentElement.style.setProperty('--at', range.value + '%'));
  }
  for (const select of figure.querySelectorAll('select')) {
    select.addEventListener('change', () => {
      for (const image of figure.querySelectorAll('img')) {
        image.classList.toggle(select.dataset.side, image.dataset.view === select.value);
      }
    });
  }
}
</script>
</body>
</html>
""")
