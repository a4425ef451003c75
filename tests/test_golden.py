"""Every family of published networks against an independent implementation, by golden values in tests/fixtures."""

import pytest

from tests import golden


@pytest.mark.parametrize('family', golden.FAMILIES)
def test_every_block_equals_the_independent_implementation(family):
  limit = 1e-5 if family in ('dinov2', *golden.FOUNDATIONS) else 1e-4
  for comparison in golden.FAMILIES[family]:
    for name, found, expected in comparison():
      assert golden.error(found, expected) < limit, name
