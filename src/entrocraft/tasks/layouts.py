"""Layouts of data sets that are known as they are: where the right answer stands, and what grades it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from entrocraft.errors import InvalidValueError
from entrocraft.tasks.cells import cell

_GROUND_TRUTH = "reward_model.ground_truth"
# Names that verl grades by running what a model wrote.
_CODE = ("apps", "codecontests", "codeforces", "taco")


@dataclass(frozen=True)
class Layout:
    """What a data set has where settings say nothing."""

    answer: str
    """Column of right answers."""
    reward: str
    """Verifier that compares with them."""


PLAIN = Layout(answer="answer", reward="exact")
VERL = Layout(answer=_GROUND_TRUTH, reward="math")
"""verl's: `prompt` a list of messages, `data_source`, `ability`, `extra_info`, and the answer in `reward_model`."""


def layout_of(rows: Sequence[Mapping[str, Any]], source: str, *, graded: bool) -> Layout:
    """Return the layout of rows: verl's where they have it, else the plain one.

    Args:
        rows: Rows of a data set, at least one.
        source: The data set, for messages.
        graded: Whether settings say what grades answers, so that the layout need not.

    Raises:
        InvalidValueError: Settings do not say what grades answers, and in this layout nothing of this library does.

    Example:
        >>> row = {"prompt": [{"role": "user", "content": "1 + 1?"}], "reward_model": {"ground_truth": "2"}}
        >>> layout_of([row], "sums.parquet", graded=False)
        Layout(answer='reward_model.ground_truth', reward='math')
    """
    row = next((row for row in rows if cell(row, _GROUND_TRUTH) is not None), None)
    # An `answer` beside it is taken for the answer, unless all else is as verl has it, too.
    if row is None or ("answer" in row and not isinstance(row.get("prompt"), list | Mapping)):
        return PLAIN
    truth, origin = cell(row, _GROUND_TRUTH), str(row.get("data_source"))
    if not graded and origin.startswith("entrocraft/") and str(truth).startswith("{"):
        raise InvalidValueError(
            f"{source} was written by `entrocraft verl data` for verl; here, name the task "
            f"{origin.removeprefix('entrocraft/')!r} itself"
        )
    if not graded and origin.casefold() in _CODE:
        raise InvalidValueError(
            f"{source}: answers of {origin!r} are graded by running code, for which there is no verifier here; give a "
            "`reward` of your own, package.module:function"
        )
    return VERL
