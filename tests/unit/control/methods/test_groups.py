"""Rollouts by prompt."""

import pytest
import torch

from entrocraft import Batch
from entrocraft.control.methods.groups import rows_by_prompt
from entrocraft.errors import InvalidValueError


def rows(groups, num_tokens, **options):
    fields = {"groups": torch.tensor(groups), "num_tokens": torch.tensor(num_tokens)}
    batch = Batch(step=1, entropy=0.5, advantages=torch.zeros(len(groups)), **fields)
    return [part.tolist() for part in rows_by_prompt(batch, **options)]


def test_rollouts_are_gathered_by_prompt_and_those_without_a_token_left_out():
    assert rows([5, 2, 5, 2, 9], [1, 1, 0, 3, 1]) == [[1, 3], [0], [4]]
    assert rows([5, 2, 5], [1, 1, 1], among=torch.tensor([True, False, True])) == [[0, 2]]
    assert rows([5, 2], [1, 1], among=torch.tensor([False, False])) == rows([5, 2], [0, 0]) == []


def test_a_batch_without_prompts_is_refused():
    with pytest.raises(InvalidValueError, match="groups"):
        rows_by_prompt(Batch(step=1, entropy=0.5, advantages=torch.zeros(2)))
