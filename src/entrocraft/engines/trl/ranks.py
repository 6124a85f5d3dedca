"""The ranks of an accelerate job."""

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor


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
