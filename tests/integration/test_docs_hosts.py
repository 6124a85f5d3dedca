"""docs/hosts.md: each block of code on the page runs, and does what the page says."""

import contextlib
import re
import sys
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import pytest
import tinker
import torch
import yaml
from support.suites import fast_first

import entrocraft as ec
from entrocraft.registry import load_object

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "hosts.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
LOOP, SETTINGS = BLOCKS[:2]


def mean_distance(code, capsys):
    """Return how far entropy was from its target over steps 21 to 100."""
    exec(code, {})
    rows = [[float(number) for number in line.split()] for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 100
    return sum(abs(entropy - target) for entropy, target in rows[20:]) / 80


@pytest.mark.parametrize("seed", fast_first(0, 1, 2))
def test_the_loop_follows_its_curve_and_without_control_it_does_not(seed, capsys):
    code = LOOP.replace("manual_seed(0)", f"manual_seed({seed})")
    plain = code.replace('"linear(2.3, 1.6)"', '{"schedule": "linear(2.3, 1.6)", "method": "none"}')
    assert plain != code
    assert mean_distance(code, capsys) < 0.0125 and 0.085 < mean_distance(plain, capsys) < 0.165


def test_the_loop_is_as_short_as_promised():
    assert sum(bool(line.strip()) for line in LOOP.splitlines()) <= 23  # 20 and the imports


def test_the_settings_of_a_loop_are_checked_before_a_model_loads():
    names = {}
    exec(SETTINGS, names)
    assert names["loop"].settled("linear(0.6, 0.2)").method_name == "token"


# ---- other trainers ------------------------------------------------------------------------------


def test_the_call_in_tinkers_loop_sends_what_was_decided():
    (code,) = [code for code in BLOCKS if "engines.tinker import" in code]
    columns = [{"logprobs": [0.0, -0.4], "advantages": [0.0, a], "mask": [0.0, 1.0]} for a in (1.0, -1.0)]
    prompt = tinker.ModelInput.from_ints([1, 2])
    data = [
        tinker.Datum(
            model_input=prompt,
            loss_fn_inputs={name: tinker.TensorData.from_torch(torch.tensor(row)) for name, row in each.items()},
        )
        for each in columns
    ]
    sent = []
    client = SimpleNamespace(
        forward_backward=lambda data, loss_fn: sent.append((data, loss_fn)), optim_step=sent.append
    )
    names = {"data": data, "state": None, "step": 1, "prompts": [0, 0], "rewards": [1.0, 0.0], "adam_params": "Adam"}
    with pytest.warns(UserWarning, match="gives no entropies"):
        exec(code, names | {"training_client": client})
    (kept, loss), update = sent
    assert loss == "importance_sampling" and update == "Adam" and len(kept) == 1  # entropy is low: from the failure
    assert kept[0].loss_fn_inputs["advantages"].to_torch()[1] < 0


def test_the_entry_point_for_skyrl_can_be_read():
    """It is run in tests/hosts/test_host_skyrl.py, where SkyRL is."""
    (code,) = [code for code in BLOCKS if code.startswith("# main.py")]
    compile(code, "main.py", "exec")


def test_trinitys_configuration_names_a_class_and_its_arguments():
    (code,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    algorithm = yaml.safe_load(code)["algorithm"]
    found = load_object(":".join(algorithm["advantage_fn"].rsplit(".", 1)), "advantage function")
    arguments = algorithm["advantage_fn_args"]
    signature(found).bind(**arguments)
    assert found.compute_in_trainer() and ec.Loop().settled(arguments["control"]).method_name == "token"


def test_what_the_page_says_was_run_is_what_the_tests_need():
    """The versions on the page, and a test for each trainer that is said to have been run."""
    (table,) = re.findall(r"^\| trainer \|.*?\n\n", PAGE, re.DOTALL | re.MULTILINE)
    rows = {row.split("](#")[0].strip("| ["): row for row in table.splitlines()[2:] if row}
    tests = {path.stem.removeprefix("test_host_") for path in (ROOT / "tests/hosts").glob("test_*.py")}
    for name, row in rows.items():
        assert ("**not run**" in row) == (name.lower().removesuffix("-rft") not in tests), name
    assert rows.keys() == {"tinker", "SkyRL", "Trinity-RFT", "slime", "Unsloth"}


# ---- the recipe for slime ------------------------------------------------------------------------

(RECIPE,) = [code for code in BLOCKS if code.startswith("# slime_hook.py")]
NUM_RANKS, P, G = 2, 4, 2
ARGS = SimpleNamespace(
    context_parallel_size=1,
    n_samples_per_prompt=G,
    num_rollout=5,
    calculate_per_token_loss=True,
    advantage_estimator="grpo",
    use_kl_loss=False,
    entropy_coef=0.0,
    adam_beta1=0.9,
    entrocraft={"schedule": "linear(0.9, 0.5)", "width": 0.05, "method": "token"},
)


def rank_data(rollout_id, rank):
    """Return what slime hands to its hook on one rank: samples of the batch in an order of its own, as tensors."""
    generator, samples = torch.Generator().manual_seed(rollout_id), []
    for number in range(P * G):
        length = int(torch.randint(2, 6, (1,), generator=generator))
        advantage = 1.0 if number % G else -1.0
        samples.append(
            {
                "log_probs": -torch.rand(length, generator=generator),
                "entropy": torch.rand(length, generator=generator) * 2,
                "advantages": torch.full((length,), advantage),
                "loss_masks": torch.ones(length, dtype=torch.int),
                "sample_indices": P * G * rollout_id + number,
                "local_raw_reward": advantage,
            }
        )
    partition = [number for number in reversed(range(P * G)) if number % NUM_RANKS == rank]
    columns = {name: [samples[place][name] for place in partition] for name in samples[0]}
    return columns | {"partition": partition, "num_microbatches": [1, 1]}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Return a function that carries the recipe out on all ranks: what each has instead of its advantages."""
    mpu = SimpleNamespace(
        get_data_parallel_world_size=lambda: NUM_RANKS,
        get_data_parallel_group=lambda: None,
        get_tensor_model_parallel_rank=lambda: 0,
    )
    monkeypatch.setitem(sys.modules, "megatron", SimpleNamespace(core=None))
    monkeypatch.setitem(sys.modules, "megatron.core", SimpleNamespace(mpu=mpu))
    args = SimpleNamespace(**vars(ARGS), save=str(tmp_path))

    def started():
        hooks = [{} for _ in range(NUM_RANKS)]
        for names in hooks:
            exec(RECIPE, names)

        def step(rollout_id):
            data, sent = [rank_data(rollout_id, rank) for rank in range(NUM_RANKS)], []
            # Once around to hear what each rank sends, and once more to hand that out.
            for hears in (False, True):
                for rank, names in enumerate(hooks):

                    def gather(parts, own, group=None, hears=hears):
                        if not hears:
                            sent.append(own)
                            raise StopIteration
                        parts[:] = sent

                    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
                    mpu.get_data_parallel_rank = lambda rank=rank: rank
                    with contextlib.suppress(StopIteration):
                        names["control_entropy"](args, rollout_id, data[rank])
            whole = {}
            for each in data:
                whole |= dict(zip(each["partition"], each["advantages"], strict=True))
            return [whole[place] for place in range(P * G)]

        return step

    return started


def test_slimes_recipe_decides_on_the_samples_of_all_ranks_and_goes_on_from_its_file(run):
    step = run()
    first, second = step(0), step(1)
    samples = [{}] * (P * G)
    for rank in range(NUM_RANKS):
        data = rank_data(0, rank)
        for number, place in enumerate(data["partition"]):
            samples[place] = {name: rows[number] for name, rows in data.items() if name != "num_microbatches"}
    use = ec.decide(
        ARGS.entrocraft,
        step=1,
        total_steps=10,
        log_probs=[sample["log_probs"] for sample in samples],
        entropies=[sample["entropy"] for sample in samples],
        advantages=[sample["advantages"] for sample in samples],
        groups=[number // G for number in range(P * G)],
        rewards=[sample["local_raw_reward"] for sample in samples],
        loop=ec.Loop(steps_per_decision=2.0),
    )
    assert all(torch.equal(one, other) for one, other in zip(first, use.advantages, strict=True))
    assert any((one == 0).any() for one in first)
    resumed = run()  # another process, which knows the file alone
    assert all(torch.equal(one, other) for one, other in zip(resumed(1), second, strict=True))
