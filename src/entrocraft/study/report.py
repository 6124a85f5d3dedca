"""The report of a study in words and tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from entrocraft.config import EvalConfig
from entrocraft.study.cells import Cell, runs_of
from entrocraft.study.comparison import Estimate, paired_difference
from entrocraft.study.frontier import Point, at_several_temperatures, lead_at_equal_means, points_of
from entrocraft.study.rows import Row, area, last_entropy, last_quarter
from entrocraft.study.settings import StudyConfig


@dataclass(frozen=True)
class Line:
    """What one arm, under one schedule, came to in one phase on one task: its rows by seed."""

    arm: str
    schedule: str
    """Empty if the arm has no use for one."""
    label: str
    """The two in words."""
    rows: Mapping[int, Row]

    def values(self, measure: str) -> dict[int, float]:
        """Return the mean of a measure over each run's last quarter, by seed."""
        return {seed: last_quarter(row, measure) for seed, row in self.rows.items() if measure in row["scores"]}

    def numbers(self, name: str) -> list[float]:
        """Return a number that rows hold, one per seed, without those that lack it."""
        return [row[name] for row in self.rows.values() if row.get(name) is not None]

    def tracked(self, name: str) -> list[float]:
        """Return a number of how the curve was followed, one per seed that had a curve."""
        found = [row["tracking"] for row in self.rows.values() if row.get("tracking")]
        return [tracking[name] for tracking in found if tracking.get(name) is not None]


@dataclass(frozen=True)
class Section:
    """One phase on one task: the lines that are compared with each other."""

    title: str
    lines: Sequence[Line]
    evaluation: EvalConfig
    """How its runs are evaluated as they train."""

    def measures(self, score: str) -> list[str]:
        """Return what is drawn: the number that counts, and beside it the mean and the breadth at most samples."""
        return list(dict.fromkeys([score, *(self.tradeoff or ())]))

    @property
    def tradeoff(self) -> tuple[str, str] | None:
        """The mean and the breadth at most samples, where both are scored."""
        names = _names(row["scores"] for row in _rows(self))
        mean, breadth = ([name for name in names if name.startswith(kind)] for kind in ("mean@", "pass@"))
        return (mean[-1], breadth[-1]) if mean and breadth else None

    def frontiers(self, scorings: Sequence[str]) -> dict[str, dict[int, list[Point]]]:
        """Return `tradeoff` of each line's last models under each of these scorings, by label and seed."""
        found: dict[str, dict[int, list[Point]]] = {}
        measures = self.tradeoff
        if measures is None:
            return found
        for line in self.lines:
            by_seed = {seed: points_of(row, scorings, measures) for seed, row in line.rows.items()}
            complete = {seed: points for seed, points in by_seed.items() if points is not None}
            if complete:
                found[line.label] = complete
        return found


def sections_of(study: StudyConfig, cells: Sequence[Cell], rows: Mapping[str, Row]) -> list[Section]:
    """Return what there is to compare so far, phase by phase and task by task."""
    sections = []
    for task in dict.fromkeys(cell.task for cell in cells):
        for phase in [*study.phases] or [""]:
            lines: dict[tuple[str, str, str], dict[int, Row]] = {}
            evaluation = EvalConfig()
            for cell in cells:
                run = next((run for run in cell.runs if run.phase == phase), None)
                if cell.task == task and run is not None and run.key in rows:
                    if not lines:  # as the first run's; arms may differ in their temperature alone
                        evaluation = run.resolved().eval
                    lines.setdefault((cell.arm, cell.schedule, cell.label), {})[cell.seed] = rows[run.key]
            title = ", ".join(part for part in (task, f"phase {phase}" if phase else "") if part)
            sections.append(Section(title, [Line(*names, by_seed) for names, by_seed in lines.items()], evaluation))
    return [section for section in sections if section.lines]


def report(
    study: StudyConfig,
    cells: Sequence[Cell],
    rows: Mapping[str, Row],
    pictures: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """Return the study's report as Markdown.

    Args:
        study: The study.
        cells: Its cells.
        rows: The rows that there are, by key.
        pictures: By a section's title, the files of its pictures, by what they show.
    """
    wanted = runs_of(cells).keys()
    done = len(wanted & rows.keys())
    parts = [f"# {study.title}", study.about.strip(), _how_read(study, done, len(wanted))]
    for section in sections_of(study, cells, rows):
        if section.title:
            parts.append(f"## {section.title[0].upper()}{section.title[1:]}")
        parts += [_scores(study, section), _curves(section), _scorings(section), *_equal_means(study, section)]
        for shown, file in (pictures or {}).get(section.title, {}).items():
            parts.append(f"![{shown}]({file})")
    missing = sorted({cell.name for cell in cells for run in cell.runs if run.key not in rows})
    if missing:
        parts.append("## Not there yet\n\n" + "\n".join(f"- {name}" for name in missing))
    return "\n\n".join(part for part in parts if part) + "\n"


def _how_read(study: StudyConfig, done: int, total: int) -> str:
    return (
        f"{done} of {total} runs are done. "
        f"The number that counts is {study.score}, a run's mean over the evaluations of its last quarter. "
        "Intervals are 95 % bootstrap intervals over seeds, too narrow where these are few (of three they hold in some "
        "75 of 100 studies, of five in 84), and p-values those of a sign-flip test, from three seeds on; "
        f"differences are from `{study.compared_with}` with the same seeds."
    )


def _scores(study: StudyConfig, section: Section) -> str:
    """Return the table of scores."""
    measures = list(dict.fromkeys([study.score, *_names(row["scores"] for row in _rows(section))]))
    head = ["", f"{study.score}", "difference", "area", *measures[1:], "seeds"]
    table = []
    for line in section.lines:
        values = line.values(study.score)
        if not values:
            continue
        baseline = _baseline(study, section, line)
        difference = None if baseline is None else paired_difference(values, baseline.values(study.score))
        table.append(
            [
                line.label,
                str(Estimate.of(list(values.values()))),
                "-" if difference is None else str(difference),
                str(Estimate.of([area(row, study.score) for row in line.rows.values()])),
                *(_estimate(list(line.values(measure).values())) for measure in measures[1:]),
                str(len(line.rows)),
            ]
        )
    return _markdown(head, table)


def _curves(section: Section) -> str:
    """Return the table of how curves were followed, and at what price."""
    head = ["", "entropy at the end", "distance from the curve", "in band", "tokens kept", "seconds a step"]
    table = []
    for line in section.lines:
        ends = [end for row in line.rows.values() if (end := last_entropy(row)) is not None]
        kept = line.tracked("kept_token_fraction") or line.tracked("kept_fraction")
        table.append(
            [
                line.label,
                _estimate(ends),
                _estimate(line.tracked("mean_error"), digits=4),
                _estimate(line.tracked("in_band"), digits=2),
                _estimate(kept, digits=2),
                _estimate(line.numbers("seconds_per_step"), digits=2),
            ]
        )
    return "Entropy is in nats per token.\n\n" + _markdown(head, table)


def _scorings(section: Section) -> str:
    """Return a table for each further scoring of the last models."""
    parts = []
    for scoring in _names(row["scorings"] for row in _rows(section)):
        measures = _names(row["scorings"].get(scoring, {}) for row in _rows(section))
        table = [
            [line.label, *(_estimate(_of_scoring(line, scoring, measure)) for measure in measures)]
            for line in section.lines
        ]
        parts.append(f"The last models, scored {scoring}:\n\n" + _markdown(["", *measures], table))
    return "\n\n".join(parts)


def _equal_means(study: StudyConfig, section: Section) -> list[str]:
    """Return a table of the leads in breadth at equal means, for each group of scorings at several temperatures."""
    if section.tradeoff is None:
        return []
    mean, breadth = section.tradeoff
    parts = []
    for scorings in at_several_temperatures(study.scorings, section.evaluation):
        frontiers, table = section.frontiers(scorings), []
        for line in section.lines:
            baseline = _baseline(study, section, line)
            others = {} if baseline is None else frontiers.get(baseline.label, {})
            own = frontiers.get(line.label, {})
            pairs = [(own[seed], others[seed]) for seed in own if seed in others]
            leads = [lead for pair in pairs if (lead := lead_at_equal_means(*pair)) is not None]
            if leads:
                table.append([line.label, str(Estimate.of(leads)), str(len(leads))])
        if table:
            parts.append(
                f"By how much {breadth} is above `{study.compared_with}`'s at the same {mean}, which takes another "
                f"temperature ({', '.join(scorings)}; seeds that have a mean in common):\n\n"
                + _markdown(["", f"lead in {breadth}", "seeds"], table)
            )
    return parts


def _of_scoring(line: Line, scoring: str, measure: str) -> list[float]:
    found = [row["scorings"].get(scoring, {}).get(measure) for row in line.rows.values()]
    return [value for value in found if value is not None]


def _baseline(study: StudyConfig, section: Section, line: Line) -> Line | None:
    """Return what a line is compared with: the baseline's under the same schedule, or else its first; None for its own.

    A baseline without a use for schedules has but one line.
    """
    if line.arm == study.compared_with:
        return None
    candidates = [other for other in section.lines if other.arm == study.compared_with]
    return next((other for other in candidates if other.schedule == line.schedule), next(iter(candidates), None))


def _rows(section: Section) -> list[Row]:
    return [row for line in section.lines for row in line.rows.values()]


def _names(mappings: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _estimate(values: Sequence[float], digits: int = 3) -> str:
    if not values:
        return "-"
    return str(Estimate.of(values)) if digits == 3 else f"{Estimate.of(values).mean:.{digits}f}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)
