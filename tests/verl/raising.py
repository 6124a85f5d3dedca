"""Reward functions that fail: on everything, and on every other problem."""


def always(data_source, solution_str, ground_truth, extra_info=None, **more):
    raise RuntimeError("the sandbox is not there")


def sometimes(data_source, solution_str, ground_truth, extra_info=None, **more):
    if extra_info["index"] % 2:
        raise RuntimeError("the sandbox is not there")
    return solution_str.count("+") / 3
