"""What a model may write, through every verifier: none of it may end grading, and a right answer is a right answer."""

import ast
import random
from collections import Counter
from fractions import Fraction
from functools import cache
from random import Random
from typing import Any

from entrocraft.grading import verifiers
from entrocraft.tasks import Additions, Countdown, ReasoningGym
from fuzz import mutate, noise
from fuzz.target import Case, Outcome, Target, expect

_SECONDS = 1.0  # for one completion in a process of its own
_PATTERNS = (r"#### (.*)", r"(?s)<answer>(.*?)</answer>", r"\\boxed\{(.*)\}", r"(\d+)\s*$", r"(a+)+$", r"(?:)|(x)")
_MATHS = (
    *(r"\frac{1}{2}", r"\sqrt{2}", "x^2+1", r"\text{Evelyn}", "(1, 2)", r"[0, \infty)", "3/4", r"\pi", "0.5", r"10\%"),
    *(
        r"9^{9^{9}}",
        r"10^{5000}",
        r"\binom{10^{9}}{5}",
        "x=3",
        r"\{1,2\}",
        r"\begin{pmatrix}1\\2\end{pmatrix}",
        "1e999",
    ),
    *(r"\frac{1}{0}", r"\sum_{i=1}^{10^{9}} i", r"\int_0^1 x dx", r"2^{2^{2^{2^{2^{2}}}}}", r"\lim_{x\to0} x", "100!"),
)
_EXPRESSIONS = ("4+6-1+9", "(4+6)*(9-1)", "9/(4-1)*6", "((4))", "4+6-(1+9)", "4*6/9", "1-4-6-9", "9/(6-6)", "(4+6")
_FRAMES = (
    "{}",
    "It is {}.",
    "so #### {}",
    "<answer>{}</answer>",
    r"\boxed{{{}}}",
    "first 3, then {}",
    "${}$",
    "x = {}",
)


def draw(rng: Random) -> Case:
    """Draw a completion and a right answer; `right` says whether they agree, where that is known."""
    kind, right = rng.random(), None
    frame = rng.choice(_FRAMES)
    answer = rng.choice(("42", "1,200", "0.5", "-7", *_MATHS))
    if kind < 0.35:
        number = _number(rng)
        other = number if rng.random() < 0.5 else _number(rng)
        answer, completion, right = str(number), frame.format(_as_written(rng, other)), number == other
    elif kind < 0.6:
        completion = rng.choice(_EXPRESSIONS)
        if rng.random() < 0.7:
            completion = "".join(rng.choice("469146910()+-*/ ") for _ in range(rng.randint(1, 16)))
    elif kind < 0.85:
        completion = frame.format(rng.choice(_MATHS))
    else:
        completion = noise.text(rng) if rng.random() < 0.8 else noise.nested(rng, "(", ")")
    if right is None and rng.random() < 0.5:
        completion = mutate.edited(rng, completion, (*noise.TEXTS, "\u2212", "\u0664", "\\boxed{", "**", "^", "9" * 50))
    graders = [name for name, odds in (("regex", 0.1), ("math", 0.03), ("gym", 0.01)) if rng.random() < odds]
    return {"completion": completion, "answer": answer, "right": right, "also": graders}


def _number(rng: Random) -> Fraction | int:
    return rng.choice((rng.randint(-20, 20), rng.randint(1000, 10**7), Fraction(rng.randint(-99, 9999), 100)))


def _as_written(rng: Random, number: Fraction | int) -> str:
    """Return a number in decimals, in one of the ways that people write it."""
    sign, size = "-" if number < 0 else "", abs(number)
    whole, rest = divmod(size, 1)
    decimals = "" if not rest else f".{int(rest * 100):02d}".rstrip("0")
    comma = rng.choice((",", r"{,}", r"\,", "\u202f", ""))
    grouped = f"{int(whole):,}".replace(",", comma)
    return f"{sign}{grouped}{decimals}"


@cache
def _grader(name: str) -> Any:
    """Return a verifier or a task by name; those with processes of their own are started once."""
    match name:
        case "math":
            return verifiers.build({"name": "math", "seconds": _SECONDS})
        case "countdown":
            return Countdown()
        case "additions":
            return Additions()
        case "gym":
            task = ReasoningGym("basic_arithmetic", level=0, extract="number")
            return task, task.problems("train", 1)[0]
        case _ if name in _PATTERNS:
            return verifiers.build({"name": "regex", "pattern": name, "seconds": _SECONDS})
        case _:
            return verifiers.Tagged() if name == "tagged" else verifiers.build(name)


def try_case(case: Case) -> Outcome:
    """Grade a completion by everything; where it is known what is right, hold the scores against that."""
    completion, answer = case["completion"], case["answer"].replace("Fraction", "")
    scores = {name: _scored(_grader(name), completion, answer) for name in ("exact", "number", "tagged")}
    if case["right"] is not None:
        decimal = str(float(Fraction(answer))) if "/" in answer else answer
        scores["number"] = _scored(_grader("number"), completion, decimal)
        expect(scores["number"] == case["right"], f"number grades {completion!r} against {decimal} {scores['number']}")
    problem = {"numbers": [4, 6, 1, 9], "target": 18}
    scores["countdown"] = _grader("countdown").score(completion, problem)
    expect(scores["countdown"] == _countdown(completion, problem), f"countdown grades {completion!r} {scores}")
    scores["additions"] = _grader("additions").score(completion, {"answer": 42})
    if "regex" in case["also"]:
        pattern = random.Random(completion.encode("utf-8", "surrogatepass")).choice(_PATTERNS)
        scores["regex"] = _scored(_grader(pattern), completion, answer)
    if "math" in case["also"]:
        scores["math"] = _scored(_grader("math"), completion, answer)
    if "gym" in case["also"]:
        task, made = _grader("gym")
        scores["gym"] = task.score(completion, made)
    expect(all(0.0 <= score <= 1.0 for score in scores.values()), f"scores are {scores}")
    return "accepted"


def _scored(verifier: Any, completion: str, answer: str) -> float:
    """Return the score of one completion; what it answers must be readable, too."""
    (score,) = verifier.scores([completion], [answer])
    (said,) = verifier.answers_of([completion])
    expect(said is None or isinstance(said, str), f"{completion!r:.200} answers {said!r:.100}")
    return score


def _countdown(text: str, problem: dict[str, Any]) -> float:
    """Grade Countdown by Python's own grammar, evaluated in fractions."""
    if len(text) > 256 or not set(text) <= set("0123456789+-*/() \t\n\r") or "**" in text or "//" in text:
        return (
            0.0
            if not any(ch.isdigit() and not ch.isascii() for ch in text)
            else _grader("countdown").score(text, problem)
        )
    numbers: list[int] = []

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            numbers.append(node.value)
            return Fraction(node.value)
        if not isinstance(node, ast.BinOp):
            raise SyntaxError(f"{node} is not of the grammar")
        left, right = value(node.left), value(node.right)
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case _:
                return left / right

    try:
        found = value(ast.parse(" ".join(text.split()), mode="eval").body)
    except (SyntaxError, ZeroDivisionError, RecursionError, MemoryError):
        return 0.0
    return float(found == problem["target"] and Counter(numbers) == Counter(problem["numbers"]))


TARGET = Target("completions", draw, try_case, labels=lambda case: [f"also by {name}" for name in case["also"]])
