"""A rollout engine for tests: transformers in a Ray actor, sampling whatever requests have come in together.

Each request is drawn from random numbers of its own, so that what is sampled does not depend on which come in together:
runs whose weights are alike can be compared.
"""

import asyncio
import os
from collections import Counter

import ray
import torch
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput

_SERVER = "transformers_cpu_{}"
_GATHERING_SECONDS = 0.05
_LARGEST_BATCH = 256


class WeightSender(BaseRollout):
    """Lives in each of the trainer's workers, and sends new weights to the server of its replica."""

    def __init__(self, config, model_config, device_mesh, replica_rank=-1):
        super().__init__(config, model_config, device_mesh)
        world = config.tensor_model_parallel_size * config.data_parallel_size * config.pipeline_model_parallel_size
        rank = int(os.environ["RANK"])
        self._server = _SERVER.format(rank // world if replica_rank == -1 else replica_rank)
        self._sends = rank % world == 0

    async def resume(self, tags):
        pass

    async def release(self):
        pass

    async def update_weights(self, weights, global_steps=None, wire_format="named_tensors", **kwargs):
        # To walk through the weights is a collective: every rank must, also one that sends nothing.
        state = {name: tensor.detach().to("cpu", torch.float32).clone() for name, tensor in weights}
        if self._sends:
            await ray.get_actor(self._server).set_weights.remote(state, global_steps)


class Server:
    """Holds the policy and samples from it."""

    def __init__(self, path, end_tokens, response_length, seed):
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.set_num_threads(1)
        self.model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path)).eval()
        self.end_tokens, self.response_length = set(end_tokens), response_length
        self.global_steps, self.seed, self.times_asked = None, seed, Counter()
        self.requests, self.sampling = [], None
        self.has_weights = asyncio.Event()

    async def set_weights(self, state, global_steps):
        missing, unexpected = self.model.load_state_dict(state, strict=False)
        if unexpected or any("lm_head" not in name for name in missing):
            raise RuntimeError(f"weights do not fit: missing {missing}, unexpected {unexpected}")
        self.global_steps = global_steps
        self.has_weights.set()

    async def generate(self, request_id, prompt_ids, sampling_params, **kwargs):
        answer = asyncio.get_running_loop().create_future()
        prompt = tuple(prompt_ids)
        generator = torch.Generator().manual_seed(hash((*self.seed, self.times_asked[prompt], *prompt)) % 2**63)
        self.times_asked[prompt] += 1
        self.requests.append((list(prompt), dict(sampling_params), generator, answer))
        if self.sampling is None or self.sampling.done():
            self.sampling = asyncio.create_task(self._sample_all())
        return await answer

    async def _sample_all(self):
        await self.has_weights.wait()
        while self.requests:
            await asyncio.sleep(_GATHERING_SECONDS)
            batch, self.requests = self.requests[:_LARGEST_BATCH], self.requests[_LARGEST_BATCH:]
            prompts, params, generators, _ = zip(*batch, strict=True)
            try:
                outputs = self._sample(prompts, params, generators)
            except Exception as error:
                for *_, answer in batch:
                    answer.set_exception(error)
                continue
            for (*_, answer), output in zip(batch, outputs, strict=True):
                answer.set_result(output)

    @torch.no_grad()
    def _sample(self, prompts, params, generators):
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        temperature = torch.tensor([float(p.get("temperature", 1.0)) for p in params])
        limits = [int(p.get("max_tokens") or p.get("max_new_tokens") or self.response_length) for p in params]
        tokens, log_probs = [[] for _ in prompts], [[] for _ in prompts]
        done = [False] * len(prompts)
        cache = None
        while not all(done):
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            out = self.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )
            cache, logits = out.past_key_values, out.logits[:, -1].float()
            log_p = torch.log_softmax(logits / temperature.clamp(min=1e-3)[:, None], -1)
            drawn = torch.cat(
                [torch.multinomial(p, 1, generator=g) for p, g in zip(log_p.exp(), generators, strict=True)]
            )
            next_tokens = torch.where(temperature > 0, drawn, logits.argmax(-1))
            for row, token in enumerate(next_tokens.tolist()):
                if not done[row]:
                    tokens[row].append(token)
                    log_probs[row].append(log_p[row, token].item())
                    done[row] = token in self.end_tokens or len(tokens[row]) >= limits[row]
            ids = next_tokens[:, None]
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        return [
            TokenOutput(
                token_ids=token_ids,
                log_probs=log_p,
                stop_reason="completed",
                num_preempted=0,
                extra_fields={"global_steps": self.global_steps},
            )
            for token_ids, log_p in zip(tokens, log_probs, strict=True)
        ]

    async def nothing(self, *args, **kwargs):
        pass

    wake_up = sleep = abort_all_requests = resume_generation = clear_kv_cache = nothing
    release_kv_cache = resume_kv_cache = start_profile = stop_profile = nothing


class TransformersReplica(RolloutReplica):
    """Starts one server."""

    def rollout_worker_use_gpu(self):
        return False

    async def launch_servers(self):
        from transformers import AutoTokenizer

        path = self.model_config["path"] if not hasattr(self.model_config, "path") else self.model_config.path
        end = AutoTokenizer.from_pretrained(path).eos_token_id
        actor = ray.remote(Server).options(
            name=_SERVER.format(self.replica_rank), num_cpus=0, max_concurrency=self.max_concurrency
        )
        seed = (self.config.get("seed", 0) or 0, self.replica_rank)  # replicas may be asked the same
        self._server_handle = actor.remote(path, [end], self.config.response_length, seed)
        self._server_address = f"transformers-{self.replica_rank}"
        self.servers = [self._server_handle]
