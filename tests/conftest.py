"""What holds for all tests."""

from hypothesis import settings

# Time is for benchmarks: on a machine that is busy, a slow example is no failure.
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.load_profile("fixed")
