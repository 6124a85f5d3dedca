"""Time and peak memory of entropy and predicted change at a vocabulary of 152,000, beside a plain log-prob pass.

Each variant runs in a process of its own, so that its peak memory can be read; the variants take turns.

    python benchmarks/vocabulary.py --output results/benchmarks/vocabulary.json
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import entrocraft as ec

NUM_TOKENS, VOCABULARY, REPEATS = 1024, 152_000, 5


def plain_log_probs(logits, tokens):
    """What a training script writes: log-softmax over everything at once."""
    return torch.log_softmax(logits, dim=-1).gather(-1, tokens[..., None])


VARIANTS = {
    "nothing": lambda logits, tokens: None,
    "plain log-probs": plain_log_probs,
    "chunked log-probs": ec.token_log_probs,
    "entropy": lambda logits, tokens: ec.token_entropy(logits),
    "entropy and exact change": lambda logits, tokens: (
        ec.token_entropy(logits),
        ec.predicted_entropy_change(logits, tokens, torch.ones(len(tokens)), torch.ones_like(tokens)),
    ),
    "log-probs, entropy and estimated change": lambda logits, tokens: ec.estimated_entropy_sensitivity(
        ec.token_log_probs(logits, tokens), ec.token_entropy(logits), torch.ones_like(tokens)
    ),
}


def measure(variant):
    """Return seconds and the peak memory of this process, in GiB, after one call of `variant`."""
    torch.manual_seed(0)
    logits = torch.randn(4, NUM_TOKENS // 4, VOCABULARY)
    tokens = torch.randint(VOCABULARY, (4, NUM_TOKENS // 4))
    with torch.no_grad():
        VARIANTS[variant](logits[:, :8], tokens[:, :8])
        start = time.perf_counter()
        VARIANTS[variant](logits, tokens)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def main():
    """Measure every variant and print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--variant", choices=VARIANTS)
    args = parser.parse_args()
    if args.variant:
        print(json.dumps(measure(args.variant)))
        return
    samples = {variant: [] for variant in VARIANTS}
    for _ in range(REPEATS):
        for variant in VARIANTS:
            command = [sys.executable, __file__, "--variant", variant]
            samples[variant].append(json.loads(subprocess.check_output(command)))
    median = {v: {k: statistics.median(s[k] for s in runs) for k in runs[0]} for v, runs in samples.items()}
    plain, floor = median["plain log-probs"], median["nothing"]["peak_gib"]
    table = {
        variant: {
            "seconds": m["seconds"],
            "time_ratio": m["seconds"] / plain["seconds"],
            "extra_gib": m["peak_gib"] - floor,
            "memory_ratio": (m["peak_gib"] - floor) / (plain["peak_gib"] - floor),
        }
        for variant, m in median.items()
        if variant != "nothing"
    }
    for variant, row in table.items():
        print(f"{variant:<42}" + "  ".join(f"{name} {value:.3f}" for name, value in row.items()))
    record = {
        "command": "python benchmarks/vocabulary.py --output results/benchmarks/vocabulary.json",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, no GPU, torch {torch.__version__}",
        "tokens": NUM_TOKENS,
        "vocabulary": VOCABULARY,
        "medians_of": REPEATS,
        "table": table,
    }
    args.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
