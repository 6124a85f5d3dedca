"""Lengths of prompts as training counts them."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from entrocraft.errors import InvalidValueError
from entrocraft.models.prompts import check_prompts
from entrocraft.tasks import Countdown

CHAT = "{{ bos_token }} {% for m in messages %}{{ m['content'] }} {% endfor %}"


@pytest.fixture
def tokenizer():
    """Return a tokenizer of words that puts a beginning before text, as its chat template does, too."""
    words = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "a": 2}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>")
    made.chat_template = CHAT
    return made


@pytest.mark.parametrize("prompt", ["a a a", [{"role": "user", "content": "a a a"}]], ids=["text", "chat"])
def test_a_beginning_is_counted_once(tokenizer, prompt):
    check_prompts(Countdown(), [{"prompt": prompt}], tokenizer, 4 + 5, 5)
    with pytest.raises(InvalidValueError, match="which an answer may need 5, and this prompt has 4"):
        check_prompts(Countdown(), [{"prompt": prompt}], tokenizer, 3 + 5, 5)
