"""verl and TRL on the same batch: the same decision, the same gradient."""

import pytest
from agreeing import agreement

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("method", "ranks"), [("advantage", 1), ("budget", 1), ("token", 1), ("aligned", 2)])
def test_both_engines_make_the_same_step_of_the_same_batch(assets, tmp_path, method, ranks):
    found = agreement(assets, tmp_path, method, ranks)
    assert found["same_rollouts_kept"]
    assert method == "advantage" or found["prediction_correlation"] > 0.999
    assert 0.0 < found["share_of_tokens_kept"] < 1.0 and found["gradient_norm"] > 0.01
    assert found["entropy_difference"] < 1e-6
    if method != "aligned" or found["largest_gradient_difference"] is not None:  # see `agreement`
        assert found["largest_advantage_difference"] < 1e-5
        assert found["largest_gradient_difference"] < 1e-5
