import pytest

from entrocraft.errors import InvalidValueError, UnknownNameError, first_line, os_error_line


def test_messages_are_of_a_length_that_can_be_read():
    assert len(str(InvalidValueError("x" * 10**6))) <= 1200
    assert len(str(UnknownNameError.of("task", "x" * 10**6, ["a", "b"]))) < 300
    assert len(first_line(ValueError("x" * 10**6))) <= 1200
    assert len(os_error_line(OSError(36, "File name too long", "x" * 10**6))) < 400


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "a/b"), "a/b: No space left on device"),
        (OSError(18, "Invalid cross-device link", "a", None, "b"), "a: b: Invalid cross-device link"),
        (OSError("the hub says no\nand more"), "the hub says no"),
        (OSError(), "OSError"),
    ],
)
def test_an_error_of_the_system_is_one_line(error, line):
    assert os_error_line(error) == line


def test_what_a_message_repeats_cannot_break_its_line_or_command_a_terminal():
    assert str(InvalidValueError("no key 'a\nb', \x1b[31m, \u2028, \ud83d, é 😀")) == (
        r"no key 'a\nb', \x1b[31m, \u2028, \ud83d, é 😀"
    )
