"""A script as a user writes it for several ranks: TRL's trainer under entropy control, resumed from its checkpoints.

Run by `torchrun -m faults.two_ranks FOLDER [STEP]`; it goes on from the newest whole checkpoint, or that of a step.
"""

import json
import os
import sys
from pathlib import Path

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from entrocraft.engines.trl import with_entropy_control
from entrocraft.models import resolve_model
from entrocraft.runs.checkpoints import checkpoints_in
from faults.trainings import PROBLEMS, STEPS


class Progress(TrainerCallback):
    """Tells the harness how far the run is."""

    def __init__(self, folder):
        self._folder = folder

    def on_step_end(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            (self._folder / "progress.txt").write_text(str(state.global_step))


def even_digits(completions, **columns):
    """The share of even digits, roughly."""
    return [sum(character in "02468" for character in text) / 3 for text in completions]


def main():
    folder, *step = sys.argv[1:]
    folder = Path(folder)
    (folder / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    model = resolve_model("countdown-base")
    trainer = with_entropy_control(GRPOTrainer)(
        model=AutoModelForCausalLM.from_pretrained(model),
        reward_funcs=even_digits,
        args=GRPOConfig(
            output_dir=str(folder / "checkpoints"),
            max_steps=STEPS,
            save_steps=2,
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=8,
            learning_rate=1e-4,
            beta=0.0,
            logging_steps=1,
            report_to="none",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            gradient_checkpointing=False,
            shuffle_dataset=False,
            seed=3,
        ),
        train_dataset=Dataset.from_list([{"prompt": each["prompt"]} for each in PROBLEMS * 8]),
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[Progress(folder)],
        entropy_control="linear(0.6, 0.3)",
    )
    ranks = int(os.environ["WORLD_SIZE"])
    there = checkpoints_in(folder / "checkpoints")
    if step:
        chosen = next(each for each in there if each.step == int(step[0]))
    else:
        chosen = next((each for each in reversed(there) if not each.damage(controlled=True, ranks=ranks)), None)
    if chosen is not None and chosen.step == STEPS and not step:
        # Asked to resume a complete run, transformers would make one step too many.
        log = json.loads((chosen.folder / "trainer_state.json").read_text())["log_history"]
    else:
        trainer.train(resume_from_checkpoint=str(chosen.folder) if chosen else None)
        log = trainer.state.log_history
    if trainer.accelerator.is_main_process:
        (folder / "log.json").write_text(json.dumps(log))


if __name__ == "__main__":
    main()
