"""Samples on file: what is damaged is said, a disk that is full, too, and nothing half-made stays."""

import json
import os
from dataclasses import asdict

import pytest

from entrocraft.errors import RunDirectoryError
from entrocraft.evaluation.samples import Sample, SampleFile

SAMPLE = Sample(
    problem=0, prompt="1 + 1?", completion="2", answer="2", score=1.0, num_tokens=1, truncated=False, entropy=0.5
)


def full(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_named_and_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", full)
    folder = tmp_path / "out" / "model"
    with pytest.raises(OSError, match="No space left") as error, SampleFile(folder, {"seed": 0}):
        pass
    assert error.value.filename == str(folder / "settings.json") and not [*tmp_path.iterdir()]


def test_a_disk_that_fills_up_is_named_and_the_samples_before_stay(tmp_path):
    with SampleFile(tmp_path / "model", {"seed": 0}) as file:
        file.append([SAMPLE])
        assert file.read([0], batch_size=1) == [SAMPLE]
        samples = tmp_path / "model" / "samples.jsonl"
        samples.unlink()
        samples.symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space left") as error:
            file.append([SAMPLE])
        assert error.value.filename == str(samples)


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\n",
        b"1\n",
        b"{}\n",
        *(
            json.dumps(asdict(SAMPLE) | change).encode() + b"\n"
            for change in ({"score": "1"}, {"score": float("nan")}, {"num_tokens": 1.5}, {"answer": 2}, {"more": 0})
        ),
    ],
)
def test_what_is_no_sample_is_refused_by_the_name_of_the_file(tmp_path, line):
    with SampleFile(tmp_path / "model", {"seed": 0}) as file:
        (tmp_path / "model" / "samples.jsonl").write_bytes(line)
        with pytest.raises(RunDirectoryError, match=r"samples\.jsonl holds something else than samples: "):
            file.read([0], batch_size=1)
