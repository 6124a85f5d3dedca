"""Entropy control for verl (Ray, FSDP or Megatron, vLLM or SGLang), without a fork.

With `pip install entrocraft[verl]`, the stock command takes one option more:

    python -m verl.trainer.main_ppo ... trainer.v1.trainer_mode=entrocraft_sync \
        '+entrocraft.schedule="linear(0.6, 0.2)"'

What happens, from the outside in:

- `plugin` is loaded by `import verl` in every process. It waits for verl's own modules, imports nothing itself.
- `settings` reads the `entrocraft` block of the configuration, and refuses what cannot be right before Ray starts.
- `trainer` decides between verl's advantages and its update of the actor, on the driver, with the log-probabilities
  and entropies that verl has measured; see `engines.decider`.
- `mini_batches` assigns what is kept to mini-batches and ranks.
"""
