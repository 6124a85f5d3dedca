"""Cases that are led by which lines of the library they reach, for where atheris is installed; it is no dependency.

pip install atheris; PYTHONPATH=tests python -m fuzz.guided TARGET [options of libFuzzer, such as -max_total_time=600]
"""

import sys
from importlib import import_module
from random import Random


class Choices(Random):
    """Random numbers that are read from bytes, and are 0 where these end."""

    def __init__(self, data: bytes):
        super().__init__(0)
        self._data, self._at = data, 0

    def getrandbits(self, k: int) -> int:
        """Return `k` bits, which all else but `random` is made of."""
        size = (k + 7) // 8
        taken, self._at = self._data[self._at : self._at + size], self._at + size
        return int.from_bytes(taken.ljust(size, b"\0"), "little") >> (8 * size - k)

    def random(self) -> float:
        """Return a number from 0 to 1, of two bytes."""
        return self.getrandbits(16) / 2**16


def main() -> None:
    """Fuzz the target that the first argument names until it is a fault, or time is over."""
    import atheris

    with atheris.instrument_imports(include=["entrocraft"]):
        target = import_module(f"fuzz.{sys.argv.pop(1)}").TARGET
        watch = import_module("fuzz.watch")

    def one(data: bytes) -> None:
        case = target.draw(Choices(data))
        judgement = watch.judge(target, case)
        if judgement.is_fault:
            raise AssertionError(f"{judgement}: {case!r:.3000}")

    atheris.Setup([*sys.argv, "-handle_alrm=0", "-max_len=4096"], one)  # the watch has its own alarm
    atheris.Fuzz()


if __name__ == "__main__":
    main()
