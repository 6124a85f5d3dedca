"""What `import verl` loads: nothing at first, everything once it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

import entrocraft.engines.verl
from entrocraft.engines.verl import compatibility
from entrocraft.engines.verl.compatibility import problem_with_verl


def python(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()[-1]


def test_a_process_that_imports_verl_pays_next_to_nothing():
    seconds = python(
        "import time; t = time.process_time(); import entrocraft.engines.verl.plugin; print(time.process_time() - t)"
    )
    assert float(seconds) < 0.2
    loaded = python("import sys, entrocraft.engines.verl.plugin; print('torch' in sys.modules, 'verl' in sys.modules)")
    assert loaded == "False False"


@pytest.mark.slow
def test_verl_finds_our_trainers_by_name():
    names = python(
        "from verl.trainer.ppo.v1 import get_trainer_cls;"
        "modes = ('sync', 'colocate_async', 'separate_async');"
        "print([get_trainer_cls(f'entrocraft_{mode}').__name__ for mode in modes])"
    )
    assert names == str([f"EntropyControlledPPOTrainer{mode}" for mode in ("Sync", "ColocateAsync", "SeparateAsync")])


def test_looking_for_a_module_without_importing_it_does_not_use_up_the_call():
    called = python(
        "import importlib.util\n"
        "from entrocraft.engines.verl.plugin import after_import\n"
        "calls = []\n"
        "after_import('colorsys', lambda module: calls.append(module.__name__))\n"
        "importlib.util.find_spec('colorsys')\n"
        "import colorsys\n"
        "print(calls)"
    )
    assert called == "['colorsys']"


def test_a_module_that_is_there_is_not_waited_for():
    from entrocraft.engines.verl.plugin import after_import

    calls = []
    after_import("sys", calls.append)
    assert calls == [sys]


def test_the_verl_that_is_installed_has_all_we_lean_on():
    assert problem_with_verl() is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": lambda name: "0.8.0"}, "got verl 0.8.0; pip install 'verl>=0.9.0,<0.10'"),
        ({"_HOOKS": {"_update_actor": ["self", "batch"]}}, r"has changed: PPOTrainer._update_actor\(self, batch\)"),
        ({"_HOOKS": {"_gone": ["self"]}}, "PPOTrainer._gone"),
    ],
)
def test_a_verl_that_lacks_something_is_named(monkeypatch, change, message):
    problem_with_verl.cache_clear()
    for name, value in change.items():
        monkeypatch.setattr(compatibility, name, value)
    try:
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(problem_with_verl())
    finally:
        problem_with_verl.cache_clear()


MODULES = sorted(path.stem for path in Path(entrocraft.engines.verl.__file__).parent.glob("[a-z]*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("first", MODULES)
def test_trainers_are_registered_whichever_module_of_ours_comes_first(first):
    code = f"import sys, entrocraft.engines.verl.{first}, verl.trainer.ppo.v1"
    assert python(f"{code}; print('entrocraft.engines.verl.trainer' in sys.modules)") == "True"
