"""The pictures of a study's report: its numbers handed to what draws them. Needs matplotlib."""

from pathlib import Path

from entrocraft.reports.plots.outcomes import Outcome, draw_frontiers, draw_outcomes, draw_tradeoff
from entrocraft.reports.plots.study import draw_arms
from entrocraft.study.comparison import Estimate
from entrocraft.study.frontier import at_several_temperatures, mean_points, unbeaten
from entrocraft.study.report import Section
from entrocraft.study.settings import StudyConfig


def draw_section(settings: StudyConfig, section: Section, folder: Path, number: int) -> dict[str, str]:
    """Draw a phase on a task; return the names of the files by what they show.

    Args:
        settings: The study.
        section: What is drawn.
        folder: Where the pictures go.
        number: Which section it is, from 1, for their names.
    """
    measures = section.measures(settings.score)
    baseline = next((line.label for line in section.lines if line.arm == settings.compared_with), "")
    panels = _outcomes(section, measures)
    files = {"what the arms came to": f"outcomes{number}.png", "entropy and scores": f"arms{number}.png"}
    outcomes, arms = (folder / file for file in files.values())
    draw_outcomes(panels, baseline, outcomes)
    draw_arms({line.label: [*line.rows.values()] for line in section.lines}, measures, arms)
    if section.tradeoff is None:
        return files
    mean, breadth = (panels[measure] for measure in section.tradeoff)
    named = unbeaten({arm: (mean[arm].mean, breadth[arm].mean) for arm in mean if arm in breadth})
    files["mean and breadth"] = f"tradeoff{number}.png"
    draw_tradeoff(mean, breadth, section.tradeoff, baseline, named, folder / files["mean and breadth"])
    groups = at_several_temperatures(settings.scorings, section.evaluation)
    for group, scorings in enumerate(groups, start=1):
        found = section.frontiers(scorings)
        frontiers = {label: mean_points([*by_seed.values()]) for label, by_seed in found.items()}
        if frontiers:
            points = {(label, index): point for label, each in frontiers.items() for index, point in enumerate(each)}
            named = {label for label, _ in unbeaten(points)}
            file = f"temperatures{number}{'' if group == 1 else f'-{group}'}.png"
            draw_frontiers(frontiers, section.tradeoff, baseline, named, folder / file)
            files[f"mean and breadth, {', '.join(scorings)}"] = file
    return files


def _outcomes(section: Section, measures: list[str]) -> dict[str, dict[str, Outcome]]:
    """Return what each arm came to, by what is measured: scores, and how closely its curve was followed."""
    numbers = {
        measure: {line.label: [*line.values(measure).values()] for line in section.lines} for measure in measures
    }
    numbers["distance from the curve"] = {line.label: line.tracked("mean_error") for line in section.lines}
    panels: dict[str, dict[str, Outcome]] = {}
    for measure, by_label in numbers.items():
        for label, seeds in by_label.items():
            if seeds:
                estimate = Estimate.of(seeds)
                panels.setdefault(measure, {})[label] = Outcome(seeds, estimate.mean, estimate.interval)
    return panels
