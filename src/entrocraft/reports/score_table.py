"""Scores of several models as one table: a line for each measure, a column for each model."""

from collections.abc import Mapping, Sequence

from entrocraft.evaluation.measures import differences
from entrocraft.evaluation.scores import with_intervals

_LABEL = 12  # characters of a measure's name


def score_table(values: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return the measures of each model with 95 % intervals, and below them its differences from the first.

    Args:
        values: For each model its measures, one value per problem in the same order; see `measures_of`.

    Example:
        >>> print(score_table({"base": {"pass@1": [0.0, 0.0]}, "trained": {"pass@1": [1.0, 1.0]}}))
                       base                   trained
          pass@1       0.000  [0.000, 0.000]  1.000  [1.000, 1.000]
        <BLANKLINE>
          minus base, problem by problem
                       trained
          pass@1       +1.000  [+1.000, +1.000]
    """
    named = {name: dict(measures) for name, measures in values.items()}
    first, *others = named
    lines = _table({name: with_intervals(measures) for name, measures in named.items()}, "")
    if others:
        compared = {name: differences(_lists(named[first]), _lists(named[name])) for name in others}
        lines += ["", f"  minus {first}, problem by problem", *_table(compared, "+")]
    return "\n".join(lines)


def _lists(measures: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {name: list(column) for name, column in measures.items()}


def _table(metrics: Mapping[str, Mapping[str, float]], sign: str) -> list[str]:
    """Return a line of names and one for each measure; `sign` is "+" where differences are shown."""
    measures = dict.fromkeys(name for each in metrics.values() for name in each if "/" not in name)
    columns = [[model, *(_cell(each, name, sign) for name in measures)] for model, each in metrics.items()]
    widths = [max(map(len, column)) for column in columns]
    rows = zip(["", *measures], *columns, strict=True)
    return [
        f"  {label:<{_LABEL}} {'  '.join(f'{text:<{width}}' for text, width in zip(row, widths, strict=True))}".rstrip()
        for label, *row in rows
    ]


def _cell(metrics: Mapping[str, float], name: str, sign: str) -> str:
    """Return a measure with its interval; a dash for a model that has none."""
    if name not in metrics:
        return "-"
    low, high = metrics[f"{name}/low"], metrics[f"{name}/high"]
    return f"{metrics[name]:{sign}.3f}  [{low:{sign}.3f}, {high:{sign}.3f}]"
