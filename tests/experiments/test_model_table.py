"""`experiments/model_table.py`: the table in the README is what it computes; the quick rows of it are computed here."""

import itertools
import sys

import pytest

from lh_jax import published
from lh_jax.models import foundation

from tests import golden
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import model_table  # noqa: E402


@pytest.fixture(scope='module', name='table')
def _table():
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  lines = text.split(model_table.README_MARKS[0])[1].split(model_table.README_MARKS[1])[0].strip().splitlines()
  header, _, *rows = ([cell.strip() for cell in line.strip('|').split('|')] for line in lines)
  assert tuple(header) == model_table.HEADER
  return {(row[0].strip('`'), row[1]): row for row in rows}


def test_every_network_has_a_row(table):
  foundations = [name for name in foundation.FOUNDATIONS if not name.startswith('tiny_')]
  assert [name for name, kind in table if kind == 'foundation model'] == foundations
  assert [name for name, _ in table][: -len(foundations)] == [
    *model_table.VAES,
    *model_table.LATENT,
    *model_table.PIXEL,
  ]
  for (name, _), row in table.items():
    if name in published.FILES:
      assert row[-1] == published.FILES[name].licence


def test_sizes_and_tiles(table):
  none = dict.fromkeys(('lh_fe', *model_table.LATENT, *(file.family for file in published.FILES.values())), 1.0)
  cheap = sum(kind != 'foundation model' for _, kind in table)
  for row in itertools.islice(model_table.rows(none), cheap):
    assert row[:7] == table[row[0].strip('`'), row[1]][:7]
  for name in ('dinov2_vits14', 'vgg16'):
    assert model_table._counts(*model_table.foundation_sizes(name)) == table[name, 'foundation model'][2:5]


@pytest.mark.parametrize('family, row', [('mae', 'mae_vitb16'), ('nafnet', 'nafnet')])
def test_errors(table, family, row):
  """Those of the other families are tested against wider limits in tests/test_golden.py."""
  (cells,) = [cells for (name, _), cells in table.items() if name == row]
  for compare in golden.FAMILIES[family]:
    for _, found, expected in compare():
      assert golden.error(found, expected) <= float(cells[7])
