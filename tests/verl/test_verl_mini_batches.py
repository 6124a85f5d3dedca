"""What is left of a batch is dealt so that verl can divide it, whatever is left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrocraft.engines.verl.mini_batches import assign, token_shares
from entrocraft.errors import InvalidValueError


@st.composite
def batches(draw):
    num_ranks, rows_per_pass = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    size = num_ranks * rows_per_pass * draw(st.integers(1, 4))
    num_rows = size * draw(st.integers(1, 4))
    lengths = draw(st.lists(st.integers(1, 5000), min_size=num_rows, max_size=num_rows))
    kept = draw(st.lists(st.sampled_from(range(num_rows)), min_size=1, unique=True))
    return lengths, kept, {"mini_batch_size": size, "num_ranks": num_ranks, "rows_per_pass": rows_per_pass}


@given(batches())
def test_every_kept_row_is_dealt_once_and_every_mini_batch_gets_one(batch):
    lengths, kept, sizes = batch
    assignment = assign(lengths, kept, **sizes)
    assert sorted(assignment.order) == sorted([*kept, *assignment.fillers])
    assert not set(kept) & set(assignment.fillers)
    assert sorted(row for rows in assignment.mini_batches for row in rows) == sorted(kept)
    assert all(assignment.mini_batches)


@given(batches())
def test_verl_can_divide_it_and_never_trains_more_than_before(batch):
    lengths, kept, sizes = batch
    assignment = assign(lengths, kept, **sizes)
    unit = sizes["num_ranks"] * sizes["rows_per_pass"]
    assert assignment.size % unit == 0 and assignment.size <= sizes["mini_batch_size"]
    assert len(assignment.order) == assignment.size * len(assignment.mini_batches) <= len(lengths)
    assert len(assignment.mini_batches) <= len(lengths) // sizes["mini_batch_size"]
    assert len(assignment.mini_batches) == min(len(lengths) // sizes["mini_batch_size"], len(kept))
    assert len(assignment.fillers) < unit * len(assignment.mini_batches) + len(assignment.mini_batches)


@given(batches())
def test_what_verl_hands_each_rank_is_the_mini_batches(batch):
    """verl splits the order evenly among ranks, and each rank's part evenly into mini-batches."""
    lengths, kept, sizes = batch
    assignment = assign(lengths, kept, **sizes)
    per_rank = len(assignment.order) // sizes["num_ranks"]
    per_pass = assignment.size // sizes["num_ranks"]
    for index, rows in enumerate(assignment.mini_batches):
        seen = []
        for rank in range(sizes["num_ranks"]):
            own = assignment.order[rank * per_rank : (rank + 1) * per_rank]
            seen += own[index * per_pass : (index + 1) * per_pass]
        assert set(rows) <= set(seen) and set(seen) <= {*rows, *assignment.fillers}


@given(batches(), st.data())
def test_with_its_share_every_kept_token_weighs_as_in_a_mean_over_all(batch, data):
    """verl divides each mini-batch by its own tokens; the share must turn that into one and the same divisor."""
    lengths, kept, sizes = batch
    assignment = assign(lengths, kept, **sizes)
    tokens_of = {row: data.draw(st.integers(1, 50)) for row in range(len(lengths))}
    number = len(lengths) // sizes["mini_batch_size"]
    shares = token_shares(assignment, tokens_of, number)
    for rows in assignment.mini_batches:
        divided_by = sum(tokens_of[row] for row in rows)
        for row in rows:
            assert shares[row] / divided_by == pytest.approx(number / sum(tokens_of.values()))


def test_the_shortest_of_the_others_fill_up():
    assignment = assign([50, 7, 30, 9, 8, 100], [0, 2, 5], mini_batch_size=6, num_ranks=2)
    assert assignment.size == 4 and assignment.fillers == [1]


def test_ranks_get_about_the_same_work():
    lengths = [4000, 10, 4000, 10, 10, 10, 10, 10]
    assignment = assign(lengths, list(range(4)), mini_batch_size=8, num_ranks=2)
    order = assignment.order
    assert {sum(lengths[row] for row in order[:2]), sum(lengths[row] for row in order[2:])} == {4010}


@pytest.mark.parametrize(
    ("num_rows", "sizes"),
    [(8, {"mini_batch_size": 6, "num_ranks": 1}), (8, {"mini_batch_size": 4, "num_ranks": 3})],
)
def test_what_cannot_be_divided_is_refused(num_rows, sizes):
    with pytest.raises(InvalidValueError, match="a multiple of"):
        assign([5] * num_rows, [0], **sizes)
