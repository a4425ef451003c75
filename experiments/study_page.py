"""The page on which raters of the user study give their points: plain HTML, opened as a file, nothing is sent anywhere.

Contract: it knows its study, sets and letters, not methods; images are shown pixel by pixel at their own size; what it
saves is a CSV file with the columns of `COLUMNS`.
"""

from __future__ import annotations

from typing import Any, Mapping

LOWEST, HIGHEST = 1.0, 10.0
COLUMNS = ('study', 'rater', 'set', 'letter', 'score')

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Image quality study</title>
<style>
  body {{ font-family: sans-serif; margin: 1rem; }}
  section {{ display: flex; flex-wrap: wrap; gap: .5rem; margin-bottom: 2rem; }}
  figure {{ margin: 0; }} h2 {{ width: 100%; }}
</style>
<p>Each row shows a degraded photograph and several restorations of it. Give each restoration {low} (very bad) to {high}
(excellent) points for how good it looks, then save the file and send it back.</p>
<p><label>Your name or number <input id="rater" required></label></p>
{sections}
<button onclick="save()">Save scores.csv</button>
<script>
function save() {{
  const rater = document.getElementById('rater').value.replaceAll(/[",\\n]/g, ' ').trim();
  const fields = [...document.querySelectorAll('input[data-set]')];
  const wrong = fields.find(field => !field.value || !field.checkValidity());
  if (!rater || wrong) {{
    (wrong || document.getElementById('rater')).focus();
    alert('Something is missing.');
    return;
  }}
  const rows = fields.map(field => ['{study}', rater, field.dataset.set, field.dataset.letter, field.value].join(','));
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([['{header}', ...rows, ''].join('\\n')], {{type: 'text/csv'}}));
  link.download = 'scores.csv';
  link.click();
}}
</script></html>
"""
FIGURE = (
  '<figure><img src="{set}/{letter}.png" alt="{letter}"><figcaption>{letter} <input type="number" min="{low}" '
  'max="{high}" step="0.5" data-set="{set}" data-letter="{letter}"></figcaption></figure>'
)


def page(key: Mapping[str, Any]) -> str:
  """Returns the raters' page, as HTML.

  Args:
    key: as `user_study.export` returns it; of the methods in it, nothing reaches the page.
  """
  limits = {'low': f'{LOWEST:g}', 'high': f'{HIGHEST:g}'}
  sections = []
  for name, entry in key['sets'].items():
    figures = [FIGURE.format(set=name, letter=letter, **limits) for letter in entry['letters']]
    before = f'<figure><img src="{name}/input.png" alt="degraded"><figcaption>degraded</figcaption></figure>'
    sections.append('\n'.join([f'<section><h2>{name}</h2>', before, *figures, '</section>']))
  return PAGE.format(sections='\n'.join(sections), header=','.join(COLUMNS), study=key['study'], **limits)
