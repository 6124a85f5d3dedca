"""A model in a GGUF file: written here tensor by tensor, as llama.cpp's converter does, and read as any other."""

import json
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import quantize
from support.commands import run_command
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

from entrocraft.models import context_length, load_model, load_tokenizer

CONFIG = LlamaConfig(
    vocab_size=261,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    rope_theta=10_000.0,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant:"
)
TENSORS = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def rotary_as_llama_cpp(weight, num_heads):
    """Rows of queries and keys, with the halves that rotate together side by side and not half a head apart."""
    return weight.reshape(num_heads, 2, weight.shape[0] // num_heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path, model, quantization=GGMLQuantizationType.F32):
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(CONFIG.max_position_embeddings)
    writer.add_embedding_length(CONFIG.hidden_size)
    writer.add_block_count(CONFIG.num_hidden_layers)
    writer.add_feed_forward_length(CONFIG.intermediate_size)
    writer.add_head_count(CONFIG.num_attention_heads)
    writer.add_head_count_kv(CONFIG.num_key_value_heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(CONFIG.rms_norm_eps)
    writer.add_vocab_size(CONFIG.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    letters = list(bytes_to_unicode().values())
    writer.add_token_list([*SPECIAL, *letters, "12", "34"])
    writer.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * 258)
    writer.add_token_merges(["1 2", "3 4"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in model.state_dict().items():
        key, weight = name.removesuffix(".weight"), tensor.numpy()
        block = ""
        if key.startswith("model.layers."):
            number, key = key.removeprefix("model.layers.").split(".", 1)
            block = f"blk.{number}."
        if key == "self_attn.q_proj":
            weight = rotary_as_llama_cpp(weight, CONFIG.num_attention_heads)
        if key == "self_attn.k_proj":
            weight = rotary_as_llama_cpp(weight, CONFIG.num_key_value_heads)
        kind = quantization if weight.ndim == 2 else GGMLQuantizationType.F32
        writer.add_tensor(f"{block}{TENSORS[key]}.weight", quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LlamaForCausalLM(CONFIG).eval()


def test_a_gguf_file_is_the_model_it_was_written_from(model, tmp_path):
    file = str(tmp_path / "tiny.gguf")
    write_gguf(file, model)
    ids_BT = torch.arange(40).reshape(2, 20) * 5
    with torch.no_grad():
        torch.testing.assert_close(load_model(file)(ids_BT).logits, model(ids_BT).logits, atol=1e-5, rtol=0)
    assert context_length(file) == 128


def test_a_quantized_one_is_near_it(model, tmp_path):
    file = str(tmp_path / "tiny.gguf")
    write_gguf(file, model, GGMLQuantizationType.Q8_0)
    read, written = load_model(file).state_dict(), model.state_dict()
    assert read.keys() == written.keys()
    for name, tensor in read.items():
        assert tensor.dtype == torch.float32
        # 8 bits for the largest of a block of 32: half a step of 1/127 of it.
        torch.testing.assert_close(tensor, written[name], atol=float(written[name].abs().max()) / 127, rtol=0)


def test_its_tokenizer_and_chat_template_are_in_it(model, tmp_path):
    file = str(tmp_path / "tiny.gguf")
    write_gguf(file, model)
    tokenizer = load_tokenizer(file)
    one, plus = (3 + list(bytes_to_unicode()).index(ord(letter)) for letter in "1+")
    assert tokenizer("12+1", add_special_tokens=False)["input_ids"] == [259, plus, one]
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    asked = tokenizer.apply_chat_template([{"role": "user", "content": "12"}], tokenize=False)
    assert asked == "<|im_start|>user\n12<|im_end|>\n<|im_start|>assistant:"
    assert tokenizer(asked, add_special_tokens=False)["input_ids"][0] == 1


@pytest.mark.slow
def test_it_trains_and_what_is_saved_is_a_model_of_transformers(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_gguf("tiny.gguf", model)
    Path("sums.jsonl").write_text("".join(json.dumps({"q": f"{i}+1?", "a": i + 1}) + "\n" for i in range(30)))
    Path("sums.yaml").write_text(
        "model: tiny.gguf\n"
        "task: {name: dataset, options: {train: sums.jsonl, test_share: 0.2, prompt: '{q}', chat: true,"
        " answer: a, reward: number, max_completion_tokens: 6}}\n"
        "control: linear(1.0, 0.9, unit='initial')\n"
        "train: {steps: 2, prompts_per_step: 2, rollouts_per_prompt: 4, save_every: 2}\n"
        "eval: {num_problems: 2, num_samples: 2, k: [1]}\n"
    )
    result = run_command("train", "sums.yaml")
    assert result.exit_code == 0, result.output
    saved = load_model("runs/sums/checkpoints/checkpoint-2")
    assert saved.state_dict().keys() == model.state_dict().keys()
    assert load_tokenizer("runs/sums/checkpoints/checkpoint-2").eos_token == "<|im_end|>"
