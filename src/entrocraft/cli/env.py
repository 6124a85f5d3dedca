"""`entrocraft env`: what a bug report needs."""

import json
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from typing import Any

import click

from entrocraft import __version__
from entrocraft.cli.output import user_errors_exit_2
from entrocraft.errors import first_line

PACKAGES = (
    "torch",
    "numpy",
    "transformers",
    "tokenizers",
    "trl",
    "accelerate",
    "datasets",
    "peft",
    "vllm",
    "verl",
    "ray",
)
"""Packages whose versions matter most."""
VARIABLES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "WORLD_SIZE")
"""Variables of the environment that change how a run goes, and hold nothing private."""
FOR_DEVELOPERS = {"dev", "docs"}


@click.command(short_help="Print what a bug report needs.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@user_errors_exit_2
def env(as_json: bool) -> None:
    """Print versions, hardware and which extras are installed: paste it into a bug report.

    It names no path, user or host.
    """
    found = environment()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    extras = {f"[{name}]": "; ".join(lacking) or "installed" for name, lacking in found["extras"].items()}
    for name, said in (found["system"] | found["packages"] | extras | found["variables"]).items():
        click.echo(f"{name:<22}{said or '-'}")


def environment() -> dict[str, dict[str, Any]]:
    """Return what `entrocraft env` prints, by section and name: of an extra, what of it is lacking."""
    return {
        "system": {
            "entrocraft": f"{__version__}{' (editable)' if _is_editable() else ''}",
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "platform": platform.platform(),
            "cpu": f"{platform.machine()}, {_num_cores()} cores, {_memory()} of memory",
            "gpu": _gpus(),
        },
        "packages": {name: _version(name) for name in PACKAGES},
        "extras": {name: [*_lacking(name)] for name in _extras()},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _is_editable() -> bool:
    """Return whether the package is a working tree rather than an installed copy."""
    said = distribution("entrocraft").read_text("direct_url.json")
    return bool(said and json.loads(said).get("dir_info", {}).get("editable"))


def _num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return "unknown size"


def _gpus() -> str:
    """Return the GPUs that torch sees; or why it cannot be loaded, which is the fault that people report most."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return f"unknown: torch cannot be imported: {first_line(error)}"
    if torch.cuda.is_available():
        runtime = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
        devices = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        return f"{runtime}: " + ", ".join(f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in devices)
    if torch.backends.mps.is_available():
        return "Apple's (MPS)"
    built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
    return f"none that torch sees; it was built for {built_for}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _extras() -> list[str]:
    """Return the names of the extras that users install."""
    return sorted({*distribution("entrocraft").metadata.get_all("Provides-Extra", [])} - FOR_DEVELOPERS)


def _lacking(extra: str) -> Iterator[str]:
    """Yield what of an extra is not there, or of a version that it does not take."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, requires("entrocraft") or []):
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.marker.evaluate({"extra": ""}):  # needed without it, too
            continue
        found = _version(requirement.name)
        if found is None:
            yield f"no {requirement.name}"
        elif not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} {found}, which should be {requirement.specifier}"
