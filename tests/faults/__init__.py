"""Faults that real trainings must survive: `python -m faults` tries them all, `test_faults.py` a few of each kind."""
