"""Order statistics of all ranks' values, by counting."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from entrocraft.control.methods.order import kth_largest

values = st.lists(st.floats(0.0, 2.0**100, width=32), min_size=1, max_size=40)


@given(values, st.data())
def test_it_is_the_kth_of_the_sorted_values(numbers, data):
    k = data.draw(st.integers(1, len(numbers)))
    expected = sorted(torch.tensor(numbers).tolist(), reverse=True)[k - 1]
    assert kth_largest(torch.tensor(numbers), k, lambda counts: counts) == expected


def test_ranks_find_the_same_whatever_they_hold():
    numbers = torch.rand(50, generator=torch.Generator().manual_seed(0))
    parts = [numbers[:0], numbers[:33], numbers[33:]]  # one rank has none
    for k in (1, 7, 50):
        exchanged = []

        def recorded(counts, exchanged=exchanged):
            exchanged.append(counts)
            return counts

        kth_largest(numbers, k, recorded)
        for part in parts:
            # Each rank is told the sums that the whole makes.
            sums = iter(exchanged)
            found = kth_largest(part, k, lambda counts, sums=sums: next(sums))
            assert found == numbers.sort(descending=True).values[k - 1].item()


@pytest.mark.parametrize("numbers", [[0.0, -0.0, 0.0], [-1e-9, 0.0, 0.0]])
def test_rounding_below_0_is_0(numbers):
    assert [kth_largest(torch.tensor(numbers), k, lambda counts: counts) for k in (1, 3)] == [0.0, 0.0]
