"""What does not belong: text, numbers and values that readers were not made for."""

import math
from random import Random
from typing import Any

TEXTS = (
    *("", " ", "\n", "\t", "\0", "\r", "\x1b[31m", "\x85", "\u2028", "\u200b", "\ufeff", "\u202e", "\u0660", "\uff11"),
    *("\ud83d", "\udc80", "a\ud800b", "\U0001f600", "e\u0301", "\u00df", "\u0130", "\ufffd", "\uffff"),
    *("null", "~", "true", "yes", "off", "nan", "NaN", ".nan", ".inf", "-.inf", "inf", "-Infinity", "None"),
    *("0", "-0", "1e400", "-1e400", "1e-400", "1_000", "0x1F", "0o17", "1:30", "1:30:00", "2026-13-45", "2026-01-01"),
    *("=", "<<", "&a [*a]", "*a", "!!python/object/apply:os.system [x]", "!!binary x", "!!float x", "!!set {a}"),
    *("!!timestamp x", "!!int 0x", "!!map a", "!a b", "%YAML 9.9", "---", "...", "? a", "- - -", "|", ">", "@", "`"),
    *("{", "}", "{}", "{{", "{a", "{a.b}", "{a[0]}", "{0}", "{:>10}", "[", "]", "[]", "(", ")", "'", '"', "\\", "#"),
    *("..", "/", "//", "./..", "~", "a/b", "a/b/c", "/dev/zero", "/dev/stdin", "-", "--", "%s", "${HOME}", "$(x)"),
    *("os:system", "math:pi", "json:loads", "no_such:thing", ":", "a:", ":a", "a.b.c:d.e", "countdown", "token"),
    *("linear(0.6, 0.2)", "constant", "linear", "join", "adaptive", "train", "name", "type", "schedule", "step"),
)
"""Texts that mean something to some reader, or are hard to write down."""

NUMBERS: tuple[float, ...] = (
    *(0, 1, -1, 2, 3, 7, 10, 100, 1000, 10**6, 10**9, 10**12, 10**18, 2**31, 2**32, 2**63, -(2**63), 2**64, 10**400),
    *(0.0, -0.0, 0.1, 0.5, 1.0, 1.5, -0.5, 1e-7, 1e-300, 5e-324, 1e22, 1e300, 1.7976931348623157e308),
    *(math.inf, -math.inf, math.nan),
)
"""Numbers at the edges of what types hold."""


def text(rng: Random) -> str:
    """Return a text that is none of what is expected."""
    kind = rng.random()
    if kind < 0.8:
        return rng.choice(TEXTS)
    if kind < 0.9:
        return "".join(rng.choice(TEXTS) for _ in range(rng.randint(2, 6)))
    if kind < 0.97:
        return "".join(chr(rng.randrange(1, 0x300)) for _ in range(rng.randint(1, 12)))
    return rng.choice((*TEXTS, "a")) * rng.choice((100, 3000, 20_000))


def number(rng: Random) -> float:
    """Return a number that may be out of every range."""
    kind = rng.random()
    if kind < 0.7:
        return rng.choice(NUMBERS)
    if kind < 0.85:
        return rng.randint(-20, 2000)
    return round(rng.uniform(-2, 3), rng.randint(0, 6))


def value(rng: Random, depth: int = 2) -> Any:
    """Return a value of any type that JSON has."""
    kind = rng.random()
    if kind < 0.3:
        return text(rng)
    if kind < 0.65:
        return number(rng)
    if kind < 0.78 or depth == 0:
        return rng.choice((None, True, False))
    if kind < 0.9:
        return [value(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    return {text(rng)[:50]: value(rng, depth - 1) for _ in range(rng.randint(0, 3))}


def nested(rng: Random, opening: str = "[", closing: str = "]") -> str:
    """Return brackets within brackets, deeper than any parser's stack."""
    depth = rng.choice((10, 10, 50, 50, 100, 100, 200, 200, 300, 300, 900, 20_000))
    return opening * depth + (closing * depth if rng.random() < 0.7 else "")
