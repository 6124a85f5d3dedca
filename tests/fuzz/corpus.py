"""Cases that were found to be faults: small files, one each, which the tests try again."""

import json
import zlib
from pathlib import Path

from fuzz.target import Case

FOLDER = Path(__file__).parent / "corpus"


def save(target: str, case: Case) -> Path:
    """Write a case to the corpus, under a name that is the same for the same case."""
    text = json.dumps(case, indent=1) + "\n"
    file = FOLDER / target / f"{zlib.crc32(text.encode()):08x}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def load(file: Path) -> Case:
    """Return the case that a file holds."""
    return json.loads(file.read_text(encoding="utf-8"))


def cases(target: str) -> list[Path]:
    """Return the files of a target's cases."""
    return sorted((FOLDER / target).glob("*.json"))
