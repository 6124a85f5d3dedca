"""Fuzzers: cases by the hundred thousand for whatever reads what a person or a model wrote.

`python -m fuzz` runs them; `test_fuzz.py` runs a short form, and replays what was found, which stays in `corpus/`.
"""
