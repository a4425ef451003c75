"""Windows cover an axis exactly once, never show a cut, and the cheapest one is cheap."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
import pytest

from lh_jax.ops import tiles

lengths = st.integers(1, 300)
geometries = st.builds(
  tiles.Geometry,
  factor=st.just(8),
  channels=st.just(32),
  encoder_halo=st.integers(0, 12),
  decoder_halo=st.integers(0, 12),
)
GEOMETRY = tiles.Geometry(factor=8, channels=32, encoder_halo=5, decoder_halo=7)


def check(length, window, geometry):
  found = tiles.spans(length, window=window, halo=geometry.halo)
  kept = [cell for span in found for cell in range(span.keep_start, span.keep_stop)]
  assert kept == list(range(length))
  assert {span.stop - span.start for span in found} == {min(window, length)}
  for span in found:
    assert 0 <= span.start and span.stop <= length
    # A cut is at least a halo away from what is kept; the image's own border is no cut.
    assert span.start == 0 or span.keep_start - span.start >= geometry.halo
    assert span.stop == length or span.stop - span.keep_stop >= geometry.halo


@given(lengths, st.integers(1, 60), geometries)
def test_spans_cover_every_cell_once_with_one_shape(length, core, geometry):
  window = tiles.window_for((length, length), geometry, core=core)[0]
  assert window == length or window >= core + 2 * geometry.halo
  check(length, window, geometry)


def test_a_window_that_is_all_halo_is_refused():
  with pytest.raises(ValueError, match='a window of 14 cells keeps nothing'):
    tiles.spans(100, window=14, halo=7)


def test_geometry():
  assert GEOMETRY.halo == 7
  assert GEOMETRY.cells((2160, 3840, 3)) == (270, 480)
  assert GEOMETRY.cells((1, 9)) == (1, 2)


@settings(max_examples=50, deadline=None)
@given(lengths, lengths, st.integers(1, 90_000), geometries)
@example(16, 1, 16, tiles.Geometry(factor=8, channels=32, encoder_halo=0, decoder_halo=0))
def test_the_cheapest_window_fits_where_any_does(rows, columns, max_cells, geometry):
  window = tiles.cheapest_window((rows, columns), geometry, max_cells=max_cells, step=8)
  smallest = tiles.window_for((rows, columns), geometry, core=8)
  assert window[0] * window[1] <= max(max_cells, smallest[0] * smallest[1])
  if rows * columns <= max_cells:
    assert window == (rows, columns) or not geometry.halo  # without a halo, parts cost as much as the whole
    counts = [
      len(tiles.spans(length, window=side, halo=geometry.halo)) for length, side in zip((rows, columns), window)
    ]
    assert counts[0] * counts[1] * window[0] * window[1] <= rows * columns
  for length, side in zip((rows, columns), window):
    check(length, side, geometry)


def test_the_cheapest_window_of_a_4k_image_wastes_little():
  rows, columns = tiles.cheapest_window((270, 480), GEOMETRY, max_cells=40_000, step=8)
  counts = [len(tiles.spans(length, window=side, halo=7)) for length, side in ((270, rows), (480, columns))]
  assert counts[0] * counts[1] * rows * columns < 1.15 * 270 * 480


@given(lengths, lengths, geometries)
def test_halving_ends_at_a_small_window(rows, columns, geometry):
  window, sizes = (rows, columns), [rows * columns]
  while (smaller := tiles.halved(window, geometry)) is not None:
    window = smaller
    sizes.append(window[0] * window[1])
    for length, side in zip((rows, columns), window):
      check(length, side, geometry)
  assert sizes == sorted(set(sizes), reverse=True)
  assert max(window) <= 2 * geometry.halo + 1
