"""Grading of mathematics by math-verify; runs in the processes of `time_limit`."""

import logging
import re
import zlib
from contextlib import suppress
from typing import Any

import sympy
from math_verify import parse, verify

from entrocraft.grading.numbers import whole_number

# math-verify warns at every call that it has no time limit; `time_limit` sets one.
logging.getLogger("math_verify").setLevel(logging.ERROR)

_MOST_CHARACTERS = 1000  # of an answer in its normal form


def is_equal(answer: str, completion: str) -> bool:
    r"""Return whether what `completion` ends in, or boxes, equals the right answer.

    Args:
        answer: The right answer, LaTeX or plain text, `\boxed`, in dollars or bare.
        completion: Text that the model wrote.

    A right answer that is no mathematics, such as `Evelyn`, must stand in the last box as it is.

    Example:
        >>> is_equal("\\frac{1}{2}", "So it is \\boxed{0.5}.")
        True
        >>> is_equal("\\text{Evelyn}", "It is \\boxed{\\text{Evelyn}}"), is_equal("Evelyn", "\\boxed{Eve}")
        (True, False)
    """
    box = _last_box(completion)
    if box is not None and box.replace(" ", "") == answer.replace(" ", ""):
        return True
    if box is not None and (number := whole_number(answer)) is not None and number == whole_number(box):
        return True  # also where digits are grouped as math-verify does not know
    right = _parsed(answer)
    return bool(right) and verify(right, _last_parsed(completion), timeout_seconds=None)


def normal_form(completion: str) -> str | None:
    r"""Return what `completion` answers as text that is the same for most ways of writing it; None if nothing.

    Example:
        >>> normal_form("\\boxed{\\frac{2}{4}}"), normal_form("it is 0.5"), normal_form("no idea")
        ('1/2', '1/2', None)
        >>> normal_form("\\boxed{x = 3.0}"), normal_form("\\boxed{(x+1)^2}"), normal_form("\\boxed{\\text{Evelyn}}")
        ('3', 'x**2 + 2*x + 1', 'evelyn')
    """
    words = re.sub(r"\\(?:text|mathrm|mbox)\{([^{}]*)\}", r"\1", _last_box(completion) or "").strip()
    if re.fullmatch(r"[A-Za-z][A-Za-z ]{2,}", words):  # a name would be read as a product of its letters
        return words.casefold()
    found = _last_parsed(completion)
    value = next((each for each in found if isinstance(each, sympy.Basic)), None)
    if value is None:
        return str(found[0]) if found else words or None
    if isinstance(value, sympy.Eq) and isinstance(value.lhs, sympy.Symbol):
        value = value.rhs
    if isinstance(value, sympy.Expr):
        with suppress(Exception):  # what sympy cannot expand stays as it is written
            value = sympy.nsimplify(sympy.expand(value.doit()), rational=True)
    text = str(value)
    # An answer is kept with each sample: of one with a thousand digits, its beginning and a checksum.
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:40]}... ({zlib.crc32(text.encode())})"


def _last_box(completion: str) -> str | None:
    """Return what stands in the last box, braces balanced; None without one."""
    start = completion.rfind("\\boxed{")
    depth = 0
    for end in range(start + len("\\boxed{") - 1, len(completion) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(completion[end], 0)
        if not depth:
            return completion[start + len("\\boxed{") : end]
    return None


def _last_parsed(completion: str) -> list[Any]:
    """Read what a completion answers: from its last box on, for of several math-verify takes all together."""
    return parse(completion[max(completion.rfind("\\boxed"), 0) :], parsing_timeout=None)


def _parsed(answer: str) -> list[Any]:
    """Read a right answer. In most data sets it is LaTeX without dollars around it; dollars with a `\\` are money."""
    answer = answer.replace("\\$", "")
    bare = "$" not in answer and "\\boxed" not in answer
    return (parse(f"${answer}$", parsing_timeout=None) if bare else []) or parse(answer, parsing_timeout=None)
