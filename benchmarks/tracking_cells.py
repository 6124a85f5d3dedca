"""What the runs of tracking.py and their tables share: curves, rules, and a line of a file for each cell."""

import json

BAND = 0.04
STEPS = 60
CURVES = {
    "constant": "constant(0.6)",
    "linear": "linear(0.6, 0.45)",
    "cosine": "cosine(0.6, 0.4)",
    "steps": "steps([[0, 0.6], [0.3, 0.5], [0.65, 0.6]])",
    "sine": "cyclic(0.6, 0.5, num_cycles=2)",
    "drawn": "piecewise([[0, 0.6], [0.2, 0.52], [0.4, 0.56], [0.7, 0.42], [1, 0.48]], kind='monotone')",
}
RULES = {
    "none": {"method": "none"},
    "advantage": {"method": "advantage"},
    "predicted": {"method": "predicted"},
    "predicted + visitation": {"method": "predicted", "visitation": True},
    "probabilistic": {"method": "probabilistic"},
    "aligned": {"method": "aligned"},
    "budget": {"method": "budget"},
    "token": {"method": "token"},
    "token, rarity": {"method": "token", "predictor": "rarity"},
    "budget, aligned": {"method": "budget", "predictor": "whole_model"},
}
SMOLLM2_RULES = {
    "advantage": {"method": "advantage"},
    "predicted": {"method": "predicted"},
    "aligned": {"method": "aligned"},
    "budget, visitation": {"method": "budget", "visitation": True},
    "token, visitation": {"method": "token", "visitation": True},
    "token, rarity": {"method": "token", "predictor": "rarity"},
    "rate_and_token": {"method": "rate_and_token"},
    "budget, aligned": {"method": "budget", "predictor": "whole_model"},
}


class Cells:
    """The cells that are done, one line of a .jsonl file each."""

    def __init__(self, path):
        self.path = path
        self.rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def missing(self, **key):
        """Return True if no row has this key."""
        return not any(all(row[name] == value for name, value in key.items()) for row in self.rows)

    def add(self, row):
        """Append one row to the file."""
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print({name: value for name, value in row.items() if not isinstance(value, list)}, flush=True)
