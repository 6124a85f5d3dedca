"""One training run: what it will be, and the run itself."""

from entrocraft.training.plan import Plan, plan_run, problems_of
from entrocraft.training.run import Outcome, train

__all__ = ["Outcome", "Plan", "plan_run", "problems_of", "train"]
