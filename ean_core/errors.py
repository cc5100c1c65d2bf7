"""What a user's mistake raises, and where an error of something built from a config becomes such a mistake."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

UNKNOWN_TYPE = re.compile(r"(?P<type>\S+) is not in the (?P<registry>\S+) registry")
WRONG_ARGUMENT = re.compile(
    r"(?P<where>class `\w+` in \S+: )?(\w+\.)*(__init__|\w+)\(\) (?P<what>(got|missing|takes) .*)"
)
QUOTES = "'\""
LONGEST = 80
"""Characters of a user's value that a message repeats."""
LONG_WORD, LONG_LINE = re.compile(r"\S{400,}"), re.compile(r"[^\n]{480,}")
"""What a message repeats by mistake, such as a whole file where a name was meant."""


class UserError(ValueError):
    """A mistake that the user can mend. Its message says what is wrong, where, and what to do.

    The command line prints the message and exits with status 2. Any other ``ValueError`` is a bug. Very long words and
    lines of the message are cut.
    """

    def __init__(self, message: str) -> None:
        message = LONG_WORD.sub(lambda word: shortened_text(word[0]), message)
        super().__init__(LONG_LINE.sub(lambda line: shortened_text(line[0], 440), message))


@contextmanager
def building(what: str) -> Iterator[None]:
    """Turn what is raised while a part of a config is built into a :class:`UserError` that names this part.

    A constructor that is given a wrong option may raise anything: ``KeyError`` for an unknown ``type`` and
    ``TypeError`` for a wrong argument where MMEngine or Python notice, and whatever an operation on the value raises
    where nobody does. The traceback is kept; ``--debug`` shows it. A :class:`UserError` and an ``OSError`` pass.

    Args:
        what: The part of the config that is built, for the message.
    """
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:
        raise UserError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Why something could not be built, in one line."""
    text = first_line(str(error))
    unknown = UNKNOWN_TYPE.search(str(error))
    if unknown is not None and isinstance(error, KeyError):
        return (
            f"unknown type '{shortened_text(unknown['type'].strip(QUOTES))}' (it is not in the registry "
            f"{unknown['registry']}): check its spelling; a class of your own is named with its module, as "
            "'module.Class'"
        )
    wrong = WRONG_ARGUMENT.match(text)
    if wrong is not None and isinstance(error, TypeError):
        return f"{wrong['where'] or ''}{wrong['what']}"
    frames = traceback.extract_tb(error.__traceback__)
    line = frames[-1].line if frames else ""
    return f"{type(error).__name__}: {text or line} (--debug shows where)"


def first_line(text: str, longest: int = 300) -> str:
    """The first line of a message that has words, cut where it is very long; "" if there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return shortened_text(lines[0], longest) if lines else ""


def shortened(value: object) -> str:
    """A user's value as Python writes it, cut where it is long."""
    return shortened_text(repr(value))


def shortened_text(text: str, longest: int = LONGEST) -> str:
    """A text, of which the end is left out where it is long."""
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"
