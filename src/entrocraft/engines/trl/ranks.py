"""The ranks of an accelerate job, and what transformers lacks for checkpoints of several."""

import os
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor
from trl import GRPOTrainer


class AcceleratorRanks:
    """The processes of an accelerator; see `engines.ranks.Ranks`."""

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator
        self.count = accelerator.num_processes
        self.index = accelerator.process_index
        self.is_main = accelerator.is_main_process

    def gathered(self, *columns_B: Tensor) -> tuple[Tensor, ...]:
        # One exchange for all columns; float32, since some accelerators have no float64.
        table = self._accelerator.gather(torch.stack([column.float() for column in columns_B], dim=1)).cpu().double()
        return table.unbind(dim=1)

    def summed(self, values: Tensor) -> Tensor:
        if self.count == 1:
            return values
        return self._accelerator.reduce(values.to(self._accelerator.device), "sum").cpu()

    def local(self, values_B: Tensor) -> Tensor:
        # Gathered rows are rank after rank, equally many each.
        return values_B.chunk(self.count)[self.index]

    def from_main(self, text: str | None) -> str | None:
        return broadcast_object_list([text])[0] if self.count > 1 else text

    def greatest(self, number: int) -> int:
        """Return the greatest number that any rank passes here."""
        if self.count == 1:
            return number
        return int(self._accelerator.gather(torch.tensor([number], device=self._accelerator.device)).max())


class CheckpointsOfAllRanks(GRPOTrainer if TYPE_CHECKING else object):  # type: ignore[misc]
    """Makes a trainer's checkpoints on several processes as whole as those of one, and on the CPU loadable at all."""

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The main process goes on to write trainer_state.json, which says that the checkpoint is whole: the random
        # numbers of all the others belong to it.
        self.accelerator.wait_for_everyone()

    def _load_optimizer_and_scheduler(self, checkpoint: str | os.PathLike[str] | None) -> None:
        # On the CPU accelerate numbers the device by the rank, and torch cannot load an optimizer to `cpu:0`.
        arguments: Any = vars(self.args)
        if self.args.device.type == "cpu":
            arguments["_setup_devices"] = torch.device("cpu")
        super()._load_optimizer_and_scheduler(checkpoint)
