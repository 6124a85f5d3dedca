"""Reward functions of runs: some that fail, and one by which the answers to nearly every problem differ."""


def always(data_source, solution_str, ground_truth, extra_info=None, **more):
    raise RuntimeError("the sandbox is not there")


def sometimes(data_source, solution_str, ground_truth, extra_info=None, **more):
    if extra_info["index"] % 2:
        raise RuntimeError("the sandbox is not there")
    return solution_str.count("+") / 3


def by_parity(data_source, solution_str, ground_truth, extra_info=None, **more):
    return float(sum(map(ord, solution_str)) % 2)
