"""verl and TRL on the same batch: the same decision, the same gradient."""

import pytest
from agreeing import agreement

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rule", ["advantage", "budget", "token"])
def test_both_engines_make_the_same_step_of_the_same_batch(assets, tmp_path, rule):
    found = agreement(assets, tmp_path, rule)
    assert found["same_rollouts_kept"]
    assert 0.0 < found["share_of_tokens_kept"] < 1.0 and found["gradient_norm"] > 0.01
    assert found["entropy_difference"] < 1e-6
    assert found["largest_advantage_difference"] < 1e-5
    assert found["largest_gradient_difference"] < 1e-5
