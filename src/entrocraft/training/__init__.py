"""One training run: what it will be, and the run itself."""

from entrocraft.training.plan import Plan, load_tokenizer_of, plan_run, problems_of
from entrocraft.training.problems import check_problems
from entrocraft.training.processes import Processes
from entrocraft.training.run import Outcome, train

__all__ = [
    "Outcome",
    "Plan",
    "Processes",
    "check_problems",
    "load_tokenizer_of",
    "plan_run",
    "problems_of",
    "train",
]
