"""Windows cover an axis exactly once, never show a cut, and the cheapest one is cheap."""

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from lh_jax.ops import tiles

lengths = st.integers(1, 300)
halos = st.integers(0, 12)


@given(lengths, st.integers(1, 60), halos)
def test_spans_cover_every_cell_once_with_one_shape(length, core, halo):
  window = core + 2 * halo
  found = tiles.spans(length, window=window, halo=halo)
  kept = [cell for span in found for cell in range(span.keep_start, span.keep_stop)]
  assert kept == list(range(length))
  assert {span.stop - span.start for span in found} == {min(window, length)}
  for span in found:
    assert 0 <= span.start and span.stop <= length
    # A cut is at least a halo away from what is kept; the image's own border is no cut.
    assert span.start == 0 or span.keep_start - span.start >= halo
    assert span.stop == length or span.stop - span.keep_stop >= halo


def test_a_window_that_is_all_halo_is_refused():
  with pytest.raises(ValueError, match='a window of 14 cells keeps nothing'):
    tiles.spans(100, window=14, halo=7)


def test_window_for():
  assert tiles.window_for((270, 480), core=128, halo=7) == (142, 142)
  assert tiles.window_for((1, 480), core=128, halo=7) == (1, 142)


@settings(max_examples=50, deadline=None)
@given(lengths, lengths, st.integers(1, 90_000), halos)
def test_the_cheapest_window_fits_where_any_does(rows, columns, max_cells, halo):
  window = tiles.cheapest_window((rows, columns), max_cells=max_cells, halo=halo, step=8)
  assert window[0] <= rows and window[1] <= columns
  smallest = [min(side, 8 + 2 * halo) for side in (rows, columns)]
  assert window[0] * window[1] <= max(max_cells, smallest[0] * smallest[1])
  if rows * columns <= max_cells:
    assert window == (rows, columns)


def test_the_cheapest_window_of_a_4k_image_wastes_little():
  rows, columns = tiles.cheapest_window((270, 480), max_cells=40_000, halo=7, step=8)
  counts = [len(tiles.spans(length, window=side, halo=7)) for length, side in ((270, rows), (480, columns))]
  assert counts[0] * counts[1] * rows * columns < 1.15 * 270 * 480


@given(lengths, lengths, halos)
def test_halving_ends(rows, columns, halo):
  window, sizes = (rows, columns), [rows * columns]
  while (window := tiles.halved(window, halo=halo)) is not None:
    assert min(window) >= min(rows, columns, 2 * halo + 1)
    sizes.append(window[0] * window[1])
  assert sizes == sorted(set(sizes), reverse=True)
