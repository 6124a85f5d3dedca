"""Numbers of `train.trl` of which nothing can be made, which TRL takes all the same."""

import math

import pytest
from trl import GRPOConfig

from entrocraft.errors import InvalidValueError
from entrocraft.training.passed_on import refuse_passed_on


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("num_iterations", 0, "at least 1"),
        ("steps_per_generation", 0, "at least 1"),
        ("epsilon", -1, "at least 0"),
        ("epsilon_high", math.nan, "at least 0"),
        ("beta", -0.1, "at least 0"),
        ("warmup_ratio", 7, "between 0 and 1"),
        ("adam_beta1", -0.5, "between 0 and 1"),
    ],
)
def test_a_number_out_of_range_is_refused_with_what_was_expected(name, value, expected):
    with pytest.raises(InvalidValueError, match=f"train.trl.{name} must be {expected}, got {value}"):
        refuse_passed_on({name: value}, GRPOConfig)


def test_numbers_in_range_and_null_where_it_is_the_default_pass():
    settings = {"num_iterations": 1, "epsilon": 0, "epsilon_high": None, "warmup_ratio": 1.0, "beta": 0.04}
    refuse_passed_on(settings | {"warmup_steps": 0.1, "steps_per_generation": None}, GRPOConfig)
