"""What a run writes down on the way."""

import json
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from torch.distributed.fsdp import FSDPModule
from transformers import TrainerCallback

from entrocraft.engines.checkpoints import STATE_FILE
from entrocraft.engines.trl.lines import LineWriter
from entrocraft.evaluation import correctness, with_intervals
from entrocraft.evaluation.evaluate import evaluate
from entrocraft.evaluation.samplers import TransformersSampler
from entrocraft.runs import RunDirectory
from entrocraft.runs.checkpoints import rotate
from entrocraft.runs.metrics import EVALUATION
from entrocraft.runs.state import StateFile
from entrocraft.tasks.base import CORRECT
from entrocraft.training.plan import Plan
from entrocraft.training.processes import Processes
from entrocraft.training.progress import Progress


class MetricsWriter(LineWriter):
    """Writes one line of metrics per optimizer step, shows it, says that the run is alive, and rotates checkpoints.

    Args:
        run: The run directory.
        progress: Shows each line.
        state: The run's state, which tells that it is alive.
        keep_checkpoints: How many checkpoints stay, the newest by their number; None for all.
    """

    def __init__(self, run: RunDirectory, progress: Progress, state: StateFile, *, keep_checkpoints: int | None):
        super().__init__(run, state)
        self._progress, self._keep = progress, keep_checkpoints
        self._steered = 0.0

    def written(self, line: dict[str, Any]) -> None:
        self._note_steering(line)
        self._progress.show(line)

    def _note_steering(self, line: dict[str, Any]) -> None:
        """Tell the person who bent the curve that the run follows it."""
        accepted = line.get("steering_accepted") or 0.0
        if accepted > self._steered:
            self._progress.note(f"step {line['step']}: following the curve of {self._run.steering_file}")
        self._steered = accepted

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        settle_checkpoint(self._run, state.global_step, keep=self._keep)


def settle_checkpoint(run: RunDirectory, step: int, *, keep: int | None) -> None:
    """Do what follows from a checkpoint: the controller's state beside the metrics, and older ones removed.

    A run that was killed in between has this done when it goes on.

    Args:
        run: The run directory.
        step: Step of the checkpoint.
        keep: How many checkpoints stay; None for all.
    """
    saved = run.checkpoints / f"checkpoint-{step}" / STATE_FILE
    if saved.exists():
        run.write(run.controller_file, saved.read_text())
    # TRL's own rotation goes by the time of files, which a clock that was set back turns around.
    rotate(run.checkpoints, keep, newest=step)


class Evaluator(TrainerCallback):
    """Evaluates on held-out problems, from the outside of the training's random state.

    Several processes share the batches that one would draw, which are seeded by their number, so that the scores are
    those of one; the main process puts them together and writes them down. Where the weights are sharded, a pass takes
    all processes, so that all draw every batch.
    """

    def __init__(
        self, plan: Plan, run: RunDirectory, model: Any, tokenizer: Any, progress: Progress, processes: Processes
    ):
        self._processes = processes
        self._config, self._task, self._run, self._progress = plan.config.eval, plan.task, run, progress
        self._sampling = plan.config.eval.sampling(plan.task, plan.config.train.carried_over())
        self._sampler = TransformersSampler(model, tokenizer)
        self._max_tokens = plan.trl_args.max_completion_length
        self._problems = plan.test_problems
        self._done = {line["step"] for line in run.eval_metrics()} if processes.is_main else set()
        self._for_trackers: dict[str, float] = {}
        self.tell: Callable[[dict[str, float]], None] | None = None
        """Tells trackers, such as TensorBoard, of scores; None as long as there is no trainer that has any."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._tell_trackers()  # of what was evaluated before there were any

    def _tell_trackers(self) -> None:
        if self.tell is not None and self._for_trackers:
            self.tell(self._for_trackers)
            self._for_trackers = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._config.every and state.global_step % self._config.every == 0:
            self.evaluate(state.global_step)

    def evaluate(self, step: int) -> None:
        """Evaluate once per step and add a line to the metrics."""
        if self._processes.from_main("done" if step in self._done else ""):
            return
        self._done.add(step)
        correct = self._correct(step)
        if not self._processes.is_main:
            return
        scores = with_intervals(correctness(correct, self._config.k))
        self._run.append_metrics({"step": step} | {f"{EVALUATION}{name}": value for name, value in scores.items()})
        # transformers' own trackers make `eval/` of this prefix, and `train/` of any other.
        self._for_trackers = {f"eval_{name}": value for name, value in scores.items()}
        self._tell_trackers()
        shown = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if "/" not in name)
        self._progress.note(f"held-out problems at step {step}: {shown}")

    def _correct(self, step: int) -> list[list[bool]]:
        """Return whether each answer is right, problem after problem, those of the other processes included."""
        processes = self._processes
        is_sharded = isinstance(self._sampler.model, FSDPModule)
        with warnings.catch_warnings(record=True) if not processes.is_main else nullcontext([]) as caught:
            samples = evaluate(
                lambda: self._sampler,
                self._task,
                self._problems,
                self._sampling,
                max_tokens=self._max_tokens,
                seed=step,
                with_answers=False,
                share=(0, 1) if is_sharded else (processes.index, processes.count),
                on_batch=self._progress.evaluated,
            )
        mine = {
            "correct": [(sample.problem, sample.score > CORRECT) for sample in samples],
            "warnings": [str(warning.message) for warning in caught or []],
        }
        correct: list[list[bool]] = [[] for _ in self._problems]
        # Through the store: however long the slowest takes, no collective waits for it.
        everyone = [json.loads(text) for text in processes.shared(json.dumps(mine))]
        for theirs in everyone[:1] if is_sharded else everyone:
            for problem, is_right in theirs["correct"]:
                correct[problem].append(is_right)
            for text in theirs["warnings"]:
                warnings.warn(text, stacklevel=2)
        return correct
