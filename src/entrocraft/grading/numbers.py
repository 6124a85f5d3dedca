r"""Numbers in text as a person reads them: groups of thousands, signs, powers of ten; in LaTeX, too."""

import re
from decimal import Decimal, InvalidOperation
from typing import Any

_SPACE = "\u00a0\u2007\u2009\u200a\u202f\u205f"  # spaces that group digits: they do not break a line, or are narrow
_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")
_MINUS = re.compile("[\u2212\u2012\u2013\ufe63\uff0d]")
_COMMA = re.compile(r"(?<=\d)(?:\{\s*[,\uff0c]\s*\}|\\?,\\!|\{\\,\})(?=\d{2,3}(?!\d))")  # 9{,}500 and 9,\!500
# Thousands that something else than a comma parts; every group of them has three digits.
_PARTED = re.compile(
    rf"""(?<![\d.,])\d{{1,3}}(?:
    (?:\\[,;:!\ ]\d{{3}})+ | (?:~\d{{3}})+ | (?:[{_SPACE}]\d{{3}})+ | (?:['\u2019]\d{{3}})+ | (?:_\d{{3}})+
    )(?!\d)""",
    re.VERBOSE,
)
_POWER = re.compile(  # 3 \times 10^{8}
    r"(?<=\d)\s*(?:\u00d7|\\times|\\cdot|\u00b7|\*|(?<=\s)x)\s*10\s*(?:\^|\*\*)\s*\{?\s*([-+]?\d{1,6})\s*\}?"
)
# A minus with a space after it is a sign where nothing stands before it, or nothing that it could subtract from.
_APART = re.compile(r"(^|[=:(\[{$<>,;|]|\\boxed\{|\b(?:is|equals|equal to)\b)([ \t]*)-[ \t]+(?=[.\d])", re.IGNORECASE)
_NUMBER = re.compile(
    r"""(?:(?<![\w.)\]}])-)?                               # a sign, unless it subtracts
    (?:(?:\d{1,2}(?:,\d{2}){1,8},\d{3}(?!\d)              # 1,00,000, as in India
    |\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?              # 1,234.5 or 1234.5
    |(?<!\d)\.\d+)                                        # .5
    (?:[eE][-+]?\d+)?""",
    re.VERBOSE,
)
_MAX_EXPONENT = 1000  # of ten, up or down; numbers are written out in full, and beyond that are no answers

# What makes the last number of a right answer a part of something else: what stands before it, and what follows.
_OPERAND = r"[ \t]*(?:\d|[({\\]|[^\W\d_](?![^\W\d_]))"
_BEFORE = re.compile(
    r"""(?:
      \d[)\]}]*(?: [ \t]*(?:[-+*/^,;\u00d7\u00f7\u00b7\u00b1\u2044\u2215]|\*\*|\\cdot|\\times|\\div|\\pm)[ \t]*
                 | :|[ \t]+(?::|x|&|or|and|to)[ \t]+|[ \t]+|\.|\\[,;:! ] )  # 3/4, 2:30, 10-7, 1 000, 1.000.000, 1 or 2
    | [/^_]\{?|(?:\u00b1|\\pm|mod\b|\\p?mod\{?)[ \t]*|\u221a[ \t]*|\\sqrt(?:\[[^]]*\])?\{?[ \t]*
    | \\[dt]?frac[ \t]*(?:\{[^{}]*\})?\{?
    | (?<![^\W\d_])[^\W\d_]                                             # x2
    )-?$""",
    re.VERBOSE,
)
_AFTER = re.compile(
    rf"""[ \t]*(?:[/*+\u00d7\u00f7\u00b7\u2044\u2215-]|\*\*){_OPERAND} | \^(?!\{{?\\circ) | !(?!\w) | \}}\{{ | k\b
    | [ \t]*(?:\\(?:pi|sqrt|cdot|times|div|frac|pm)\b|[\u221a\u03c0\u00b1])  | [xyzni](?!\w)
    | [ \t]*(?:hundred|thousand|million|billion|trillion|dozen)\b
    | [\u00b2\u00b3\u00b9\u00bc-\u00be\u2150-\u215e\u2070-\u207f]""",
    re.VERBOSE | re.IGNORECASE,
)


def last_number(text: str) -> str | None:
    r"""Return the last number of a text in full, the same text for the same number; None without one.

    Commas group thousands, as do narrow and unbreakable spaces and what LaTeX writes for either. A minus belongs to a
    number where nothing that could be subtracted from stands before it.

    Example:
        >>> last_number("It is 1,200.0 euro."), last_number("10-7"), last_number(r"9{,}500"), last_number("= - 5")
        ('1200', '7', '9500', '-5')
        >>> last_number(r"3 \times 10^{8}"), last_number("1,00,000"), last_number("none")
        ('300000000', '100000', None)
    """
    found = list(_NUMBER.finditer(_plain(text)))
    return _in_full(found[-1].group()) if found else None


def whole_number(text: str) -> str | None:
    r"""Return the number that a text is, in full; None if it is more than one number, or none.

    Example:
        >>> whole_number(r"9\,500"), whole_number("$ -5 $"), whole_number("3,14"), whole_number("5 cm")
        ('9500', '-5', None, None)
    """
    match = _NUMBER.fullmatch(_plain(text).strip(" $"))
    return _in_full(match.group()) if match else None


def is_part_of_more(text: str) -> bool:
    """Return whether the last number of a right answer is but a part of what a person reads there.

    Example:
        >>> texts = ("42", "#### 1,000", "$5", "x = 5", "3/4", "2:30", "1 000", "3,14")
        >>> [text for text in texts if is_part_of_more(text)]
        ['3/4', '2:30', '1 000', '3,14']
    """
    plain = _plain(text)
    found = list(_NUMBER.finditer(plain))
    if not found:
        return False
    start, end = found[-1].span()
    return _BEFORE.search(plain[max(0, start - 40) : start]) is not None or _AFTER.match(plain, end) is not None


def number_text(value: Any) -> str | None:
    """Return a number of a table as a person writes it; None if it is none, or not finite.

    Example:
        >>> number_text(42.0), number_text(1e-7), number_text(1e22), number_text(Decimal("2.50")), number_text(True)
        ('42', '0.0000001', '10000000000000000000000', '2.5', None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    # The shortest decimals that a float64 is read from again, not the binary fraction that it is.
    exact = Decimal(repr(float(value))) if isinstance(value, float) else Decimal(value)
    return _in_full(f"{exact:e}") if exact.is_finite() else None


def _plain(text: str) -> str:
    """Return text in which commas alone group digits, and signs and powers of ten stand as in `-1e5`."""
    text = _MINUS.sub("-", _INVISIBLE.sub("", text))
    text = _PARTED.sub(lambda match: re.sub(r"\\?[^\d]", "", match.group()), _COMMA.sub(",", text))
    return _APART.sub(r"\1\2-", _POWER.sub(r"e\1", text))


def _in_full(digits: str) -> str | None:
    """Return a number without an exponent, without zeros that say nothing; None if it is out of bounds."""
    try:
        value = Decimal(digits.replace(",", ""))
    except InvalidOperation:  # an exponent that no number can have
        return None
    if not value:
        return "0"
    if abs(value.adjusted()) > _MAX_EXPONENT:
        return None
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
