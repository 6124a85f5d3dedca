"""Every block of code in the README and in docs/ is run by a test; those without a test of their own are run here.

`python -m pytest tests/integration/test_docs_blocks.py -q` prints how many there are.
"""

import ast
import re
import shlex
import shutil
import subprocess
import tomllib
from collections import Counter
from itertools import pairwise
from pathlib import Path

import click
import pytest
import yaml
from support.commands import run_command

import entrocraft as ec
from entrocraft.cli import main
from entrocraft.config import parse_config

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
NEW = {"quickstart.md", "concepts.md", "troubleshooting.md", "recipes.md"}
"""Pages whose Python and commands are carried out, and not only read."""

BY_THEIR_OWN_TEST = {
    ("README.md", "python"): "test_readme.py",
    ("extending.md", "python"): "test_docs_extending.py",
    ("extending.md", "yaml"): "test_docs_extending.py",
    ("extending.md", "csv"): "test_docs_extending.py",
    ("extending.md", ""): "test_docs_extending.py",
    ("hosts.md", "python"): "test_docs_hosts.py",
    ("index.md", "python"): "test_docs_blocks.py",
    ("hosts.md", "yaml"): "test_docs_hosts.py",
    ("studies.md", "yaml"): "test_docs_studies.py",
    ("tasks.md", "python"): "test_own_data.py",
    ("tasks.md", "json"): "test_own_data.py",
    ("trl.md", "python"): "test_docs_blocks.py",
}
SMALL = ["train.steps=9", "train.prompts_per_step=4", "train.rollouts_per_prompt=4", "train.save_every=9"]
SMALL += ["task.num_problems=40", "eval={num_problems: 2, num_samples: 2, k: [1]}"]


def blocks_of(page):
    """Return (language, code) of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


BLOCKS = [(page.name, number, *block) for page in PAGES for number, block in enumerate(blocks_of(page))]


def those_in(languages, pages=None):
    """Return pytest parameters: page, number and code of blocks in some languages, without those tested elsewhere."""
    return [
        pytest.param(page, code, id=f"{page}-{number}")
        for page, number, language, code in BLOCKS
        if language in languages and (page, language) not in BY_THEIR_OWN_TEST and (pages is None or page in pages)
    ]


def commands_of(code):
    """Return the command lines of a block, word by word, continued lines joined and comments left out."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


# ---- all blocks ----------------------------------------------------------------------------------


def test_every_block_is_run_by_some_test(capsys):
    languages = Counter(language for _, _, language, _ in BLOCKS)
    assert languages.keys() <= {"", "sh", "bash", "python", "yaml", "json", "csv"}
    for (page, language), test in BY_THEIR_OWN_TEST.items():
        assert any(block[0] == page and block[2] == language for block in BLOCKS), (page, language)
        assert f'"{page}"' in (Path(__file__).parent / test).read_text(), (page, test)
    here = sum((page, language) not in BY_THEIR_OWN_TEST for page, _, language, _ in BLOCKS)
    pages = len({page for page, *_ in BLOCKS})
    with capsys.disabled():
        print(f"\n{len(BLOCKS)} blocks of code on {pages} pages are run, {here} of them here, by language:")
        print("  " + ", ".join(f"{language or 'commands'} {count}" for language, count in languages.most_common()))


@pytest.mark.parametrize(("page", "code"), those_in({"python"}, NEW - {"quickstart.md"} | {"page.md"}))
def test_python_prints_what_its_comments_say(page, code, capsys):
    exec(code, {"__name__": "__main__"})
    beside = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    below = re.search(r"(?:^# .*\n)*\Z", code, re.MULTILINE)[0].replace("# ", "").splitlines()
    assert capsys.readouterr().out.splitlines() == beside + below


@pytest.mark.parametrize(("page", "code"), those_in({"yaml"}))
def test_settings_can_be_used(page, code):
    data = yaml.safe_load(code)
    if data.keys() == {"control"}:
        assert ec.EntropyControl.of(data["control"]).settled()
    else:
        assert parse_config(data)


def test_the_settings_of_trl_md_can_be_used():
    _, settings, _ = (code for language, code in blocks_of(DOCS / "trl.md") if language == "python")
    exec(settings, {})


def control_of(code):
    """Return the settings that a script passes on, which has `...` for arguments of its own."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    keywords = {keyword.arg: keyword.value for call in calls for keyword in call.keywords}
    return ec.EntropyControl.of(ast.literal_eval(keywords["entropy_control"]))


@pytest.mark.parametrize("page", ["index.md", "trl.md"])
def test_the_first_lines_of_a_trl_script(page):
    first = next(code for language, code in blocks_of(DOCS / page) if language == "python")
    assert control_of(first)
    exec(first.split("\n\n")[0], {})


def test_the_run_of_a_trl_script_is_the_one_that_the_commands_below_it_name():
    *_, script = (code for language, code in blocks_of(DOCS / "trl.md") if language == "python")
    (commands,) = (code for language, code in blocks_of(DOCS / "trl.md") if language == "bash")
    assert [words[2] for words in commands_of(commands)[1:]] == [control_of(script).run] * 3


# ---- commands ------------------------------------------------------------------------------------


def check_ours(words):
    """Check the arguments of a command line of ours against what the command takes, without carrying it out."""
    command, arguments = main, words[1:]
    while isinstance(command, click.Group):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    with pytest.MonkeyPatch.context() as patch:
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):  # files that a page's reader has need not be here
                patch.setattr(parameter.type, "exists", False)
        command.make_context(command.name, arguments)


def check_verl(words):
    from hydra import compose, initialize_config_module

    from entrocraft.engines.verl.checks import checked_settings

    overrides = [word for word in words if word != "..."]
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=overrides)
    if any("entrocraft" in word and "reward" not in word for word in overrides):
        assert checked_settings(config)


def check_pip(words):
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for before, word in pairwise(words[1:]):
        assert before != "-r" or (ROOT / word).exists(), word
        for asked in re.findall(r"(?:entrocraft|\.)\[(.*)\]", word):
            assert set(asked.split(",")) <= extras, word


def check_accelerate(words):
    from accelerate.commands.launch import launch_command_parser

    check_launched(launch_command_parser().parse_args([re.sub(r"\$\w+", "0", word) for word in words[2:]]))


def check_torchrun(words):
    from torch.distributed.run import get_args_parser

    check_launched(get_args_parser().parse_args(words[1:]))


def check_launched(arguments):
    """Check what a launcher is to launch: a script of the reader's, or a command of ours."""
    if arguments.module:
        assert arguments.training_script == "entrocraft.cli"
        check_ours(["entrocraft", *arguments.training_script_args])
    else:
        assert arguments.training_script == "train.py"


def check(words):
    """Check one command line of whichever tool."""
    if words[0] == "entrocraft":
        check_ours(words)
    elif words[:3] == ["python", "-m", "verl.trainer.main_ppo"]:
        check_verl(words[3:])
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets)
    elif words[:2] == ["pip", "install"]:
        for part in " ".join(words).split(" && "):
            check_pip(part.split())
    elif words[:2] == ["accelerate", "launch"]:
        check_accelerate(words)
    elif words[0] == "torchrun":
        check_torchrun(words)
    elif words[:3] == ["python", "-m", "pytest"]:
        assert all((ROOT / path).exists() for path in words[3:])
    elif words[0].startswith("'+entrocraft") or words[0].startswith(("+entrocraft", "actor_rollout_ref")):
        check_verl(words if words[0].startswith("actor") else [])  # the others are read in test_docs_refused.py
    else:
        assert words[0] in {"ray", "ssh", "export", "for", "done", "tested=$(for"}, words


@pytest.mark.parametrize(("page", "code"), those_in({"", "sh", "bash"}))
def test_commands_are_known_with_their_arguments(page, code):
    if page == "paper.md":  # a script: the commands in its loops are ours, too
        subprocess.run(["bash", "-n"], input=code, text=True, check=True)
    for words in commands_of(code):
        check(words)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Work in a folder that holds the recipes and nothing else."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_commands_of_the_new_pages_are_carried_out_in_their_order(checkout):
    made = Counter()
    for page in ("quickstart.md", "recipes.md", "troubleshooting.md"):
        for words in (w for language, code in blocks_of(DOCS / page) if language == "sh" for w in commands_of(code)):
            if words[0] != "entrocraft":
                continue
            small = {"train": SMALL, "diagnose": ["--num-prompts", "4", "--num-rollouts", "4"]}.get(words[1], [])
            if page == "recipes.md" and "--dry-run" not in words:
                small = [*SMALL, "--output", "runs/other"]
            shorter = [word for word in words[1:] if not word.startswith("train.steps=")]
            result = run_command(*shorter, *small)
            assert result.exit_code == 0, f"{shlex.join(words)}\n{result.output}"
            made[words[1]] += 1
    assert made["train"] >= 4 and made["explain"] >= 2
    assert (checkout / "comparison.png").exists() and (checkout / "train.parquet").exists()


@pytest.mark.slow
def test_the_script_of_the_quickstart_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (script,) = [code for language, code in blocks_of(DOCS / "quickstart.md") if language == "python"]
    assert "max_steps=50" in script
    names = {"__name__": "__main__"}
    exec(script.replace("max_steps=50", "max_steps=2"), names)
    assert names["trainer"].state.global_step == 2
