"""tinker's client types in a loop: against a stand-in of the service, and against SkyRL's server, which is a real one.

The second needs SkyRL 0.4 (Python 3.12); docs/hosts.md says how to run it.
"""

import importlib.util
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.suites import fast_first

pytest.importorskip("tinker", reason="needs tinker")

import tinker
import torch
from tinker import Datum, ModelInput, TensorData

import entrocraft as ec
from entrocraft.engines.tinker import TINKER, controlled
from entrocraft.errors import InvalidValueError

P, G, T, V = 8, 8, 4, 16


class Service:
    """Stands in for the service: a policy that is a table, sampled and trained through tinker's own types."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.logits_PTV = torch.randn(P, T, V, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.logits_PTV], lr=0.05)

    def policy(self, prompt):
        return torch.distributions.Categorical(logits=self.logits_PTV[prompt])

    @torch.no_grad()
    def sample(self, prompt, num_samples):
        policy = self.policy(prompt.to_ints()[1])
        tokens = policy.sample((num_samples,))
        rows = zip(tokens.tolist(), policy.log_prob(tokens).tolist(), strict=True)
        sequences = [SimpleNamespace(tokens=tokens, logprobs=log_probs) for tokens, log_probs in rows]
        return SimpleNamespace(sequences=sequences, entropies=policy.entropy().tolist())

    def forward_backward(self, data, loss_fn):
        assert loss_fn == "importance_sampling" and data
        losses = []
        for datum in data:
            assert datum.loss_fn_inputs.keys() == {"target_tokens", "logprobs", "advantages"}  # all that it takes
            targets, old, advantages = (datum.loss_fn_inputs[name].to_torch() for name in datum.loss_fn_inputs)
            assert len(targets) == len(old) == len(advantages) == datum.model_input.length
            log_probs = self.policy(datum.model_input.to_ints()[1]).log_prob(targets[1:])
            losses.append(-((log_probs - old[1:]).exp() * advantages[1:]).sum())
        sum(losses).backward()

    def optim_step(self):
        self.optimizer.step()
        self.optimizer.zero_grad()


def datum_of(prompt, sequence, advantage, **others):
    """Return a datum as tinker's loops make it: targets are what comes next, 0 before the first sampled token."""
    before = prompt.length - 1
    columns = {
        "target_tokens": [0] * before + sequence.tokens,
        "logprobs": [0.0] * before + sequence.logprobs,
        "advantages": [0.0] * before + [advantage] * len(sequence.tokens),
        "mask": [0.0] * before + [1.0] * len(sequence.tokens),
    }
    inputs = {name: TensorData.from_torch(torch.tensor(column)) for name, column in (columns | others).items()}
    return Datum(model_input=ModelInput.from_ints(prompt.to_ints() + sequence.tokens[:-1]), loss_fn_inputs=inputs)


def sampled(service):
    """Return a batch: data, rewards, prompts, and what the table knows of entropies."""
    data, rewards, groups, entropies = [], [], [], []
    for number in range(P):
        prompt = ModelInput.from_ints([0, number])
        result = service.sample(prompt, G)
        own = torch.tensor([sum(token % 2 == 0 for token in s.tokens) / T for s in result.sequences])
        advantages = ec.advantages.estimate("grpo", own[None])[0].tolist()
        data += [datum_of(prompt, s, a) for s, a in zip(result.sequences, advantages, strict=True)]
        rewards += own.tolist()
        groups += [f"prompt {number}"] * G
        entropies += [[0.0, *result.entropies]] * G
    return data, {"rewards": rewards, "groups": groups}, entropies


def distance(control, seed, steps=60, **knows):
    """Return how far entropy was from its target, from step 16 on."""
    service, state, errors = Service(seed), None, []
    for step in range(1, steps + 1):
        data, known, entropies = sampled(service)
        if knows.get("entropies"):
            known["entropies"] = entropies
        kept, use = controlled(data, control, state, step=step, total_steps=steps, **known)
        state = use.state
        errors.append(abs(torch.tensor(entropies).sum() / (P * G * T) - use.metrics["target"]).item())
        if kept:
            service.forward_backward(kept, "importance_sampling")
            service.optim_step()
    return sum(errors[15:]) / len(errors[15:])


@pytest.mark.parametrize("seed", fast_first(0, 1))
def test_a_loop_of_tinkers_follows_its_curve(seed):
    """Entropy falls faster than this curve by itself; where the loop knows entropies, the default method holds it."""
    curve = {"schedule": "linear(2.3, 2.0)"}
    assert distance(curve, seed, entropies=True) < 0.02 < 0.05 < distance(curve | {"method": "none"}, seed)


def test_what_is_sent_is_what_decide_says():
    data, known, _ = sampled(Service())
    control = {"lower": 0.0, "upper": 0.1, "method": "advantage"}
    with pytest.warns(UserWarning, match="tinker's loop gives no entropies"):
        kept, use = controlled(data, control, step=1, total_steps=10, **known)
    rows = [{name: d.loss_fn_inputs[name].to_torch() for name in ("logprobs", "advantages", "mask")} for d in data]
    expected = ec.decide(
        control,
        step=1,
        total_steps=10,
        log_probs=[row["logprobs"][1:] for row in rows],
        advantages=[float(row["advantages"][-1]) for row in rows],
        loop=TINKER,
        **known,
    )
    assert use.keep == expected.keep and use.metrics == pytest.approx(expected.metrics) and 0 < len(kept) < len(data)
    sent = [datum.loss_fn_inputs["advantages"].to_torch()[1:] for datum in kept]
    wanted = [row for row, keep in zip(expected.advantages, expected.keep, strict=True) if keep]
    assert all(torch.equal(one, other) for one, other in zip(sent, wanted, strict=True))
    assert [datum.model_input for datum in kept] == [
        d.model_input for d, keep in zip(data, use.keep, strict=True) if keep
    ]
    assert "mask" in data[0].loss_fn_inputs  # what was given is as it was


@pytest.mark.skipif(not hasattr(Datum, "with_provenance"), reason="of later versions of tinker")
def test_where_tokens_come_from_stays_with_them():
    data, known, _ = sampled(Service())
    prompt, said = tinker.PromptProvenanceSpan, tinker.SampledProvenanceSpan
    data = [
        datum.with_provenance(
            model_input=[prompt(sequence_id=str(i), length=2), said(sequence_id=str(i), length=T - 1)],
            loss_fn_inputs=[prompt(sequence_id=str(i), offset=1, length=1), said(sequence_id=str(i), length=T)],
        )
        for i, datum in enumerate(data)
    ]
    kept, use = controlled(data, {"upper": 9.0, "lower": 0.0, "method": "none"}, step=1, total_steps=2, **known)
    assert kept and all(datum.model_input_spans and datum.loss_fn_input_spans for datum in kept) and use.keep


def test_a_batch_with_nothing_to_learn_from_is_not_sent():
    prompt = ModelInput.from_ints([0, 1])
    sequences = [SimpleNamespace(tokens=[1, 2], logprobs=[-0.5, -0.5])] * 2
    data = [datum_of(prompt, sequence, 0.0) for sequence in sequences]
    kept, use = controlled(data, {"method": "advantage"}, step=1, total_steps=2, groups=[0, 0], rewards=[1.0, 1.0])
    assert kept == [] and use.empty


def test_what_is_missing_is_said():
    data, known, _ = sampled(Service())
    inputs = {name: value for name, value in data[3].loss_fn_inputs.items() if name != "mask"}
    data[3] = Datum(model_input=data[3].model_input, loss_fn_inputs=inputs)
    with pytest.raises(InvalidValueError, match="datum 3 has no mask among its loss_fn_inputs; give logprobs, advant"):
        controlled(data, 0.5, step=1, total_steps=2, **known)
    data.pop(3)
    known = {name: value[:-1] for name, value in known.items()}
    with pytest.raises(InvalidValueError, match="'token' needs change, which tinker's loop cannot.*'advantage'"):
        controlled(data, 0.5, step=1, total_steps=2, **known)


# ---- a real service ------------------------------------------------------------------------------

SERVER = """
import sys, uvicorn
from skyrl.tinker import api
from skyrl.tinker.config import EngineConfig, config_to_argv

# By this Python, where SkyRL starts its engine with uv.
api._build_uv_run_cmd_engine = lambda _, config: [sys.executable, "-m", "skyrl.tinker.engine", *config_to_argv(config)]
model, folder, port = sys.argv[1:]
api.app.state.engine_config = EngineConfig(
    base_model=model,
    backend="jax",
    backend_config={"max_lora_adapters": 2, "max_lora_rank": 8},
    checkpoints_base=folder,
    database_url=f"sqlite:///{folder}/tinker.db",
)
uvicorn.run(api.app, host="127.0.0.1", port=int(port), log_level="warning")
"""


@pytest.fixture
def service(tmp_path):
    """Return a client of SkyRL's tinker server, which serves the embedded model on the CPU."""
    pytest.importorskip("skyrl.tinker.api", reason="needs SkyRL with its extras tinker and jax", exc_type=ImportError)
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs SkyRL's extra jax")
    from entrocraft.models import resolve_model

    script, port = tmp_path / "serve.py", 20000 + os.getpid() % 20000
    script.write_text(SERVER)
    command = [sys.executable, str(script), str(resolve_model("countdown-base")), str(tmp_path), str(port)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    log = (tmp_path / "serve.log").open("w")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/api/v1/healthz", timeout=1)
                break
            except OSError:
                assert server.poll() is None, Path(log.name).read_text()[-3000:]
                time.sleep(1)
        yield tinker.ServiceClient(base_url=url, api_key="tml-dummy"), command[2]
    finally:
        server.terminate()
        server.wait(60)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_real_service_takes_what_is_sent_and_learns_from_it(service):
    client, model = service
    training = client.create_lora_training_client(base_model=model, rank=8, seed=0)
    prompt = ModelInput.from_ints([3, 4, 5, 6])
    parameters = tinker.SamplingParams(max_tokens=8, temperature=1.0, seed=1)
    state, log_probs = None, []
    for step in (1, 2):
        sampler = training.save_weights_and_get_sampling_client()
        sequences = sampler.sample(prompt=prompt, num_samples=8, sampling_params=parameters).result().sequences
        data = [datum_of(prompt, s, 1.0 if number % 2 else -1.0) for number, s in enumerate(sequences)]
        control = {"lower": 0.0, "upper": 0.1, "method": "advantage"}  # entropy is too high: learn from successes
        kept, use = controlled(data, control, state, step=step, total_steps=2, groups=[0] * 8)
        state = use.state
        assert use.keep == [False, True] * 4 and len(kept) == 4
        total = sum(sum(s.logprobs) for s in sequences) / sum(len(s.tokens) for s in sequences)
        assert use.metrics["entropy"] == pytest.approx(-total, rel=1e-4)
        result = training.forward_backward(kept, "importance_sampling")
        update = training.optim_step(tinker.AdamParams(learning_rate=1e-2, beta1=0.9, beta2=0.95, eps=1e-8))
        outputs = result.result().loss_fn_outputs
        update.result()
        log_probs.append(sum(float(row["logprobs"].to_torch()[3:].sum()) for row in outputs))
        sent = sum(float(datum.loss_fn_inputs["logprobs"].to_torch().sum()) for datum in kept)
        assert log_probs[-1] == pytest.approx(sent, abs=0.05)  # the policy that is trained is the one that was sampled
    assert state["counts"]["decisions"] == 2
