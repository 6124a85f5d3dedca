"""What benchmarks of TRL's trainer share."""

QUIET = {
    "beta": 0.0,
    "report_to": "none",
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
}
"""Arguments of a trainer that does nothing but train, on the CPU."""
