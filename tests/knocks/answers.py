"""How a reader or a tool answered: it read, it refused in one line, or it is at fault."""

import contextlib
import io
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ean_core.engine.cli import explain
from ean_core.errors import UserError

LONGEST = 500  # characters of a message's line, without paths
MOST_LINES = 12  # of a data check: a head, ten problems, the number of the others
PATH = re.compile(r"(/[\w.\-]+)+")


class Fault(Exception):
    """What a knock has found.

    Attributes:
        kind: ``"traceback"`` or ``"wrong"``.
        before: How many tries of the same case were answered well.
    """

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind, self.before = kind, 0


class Answer(NamedTuple):
    """What came back: a value, or the message of a refusal."""

    value: Any = None
    message: str | None = None


class Interrupted(Exception):
    """A tool ended with another status than 0, 1 and 2; what it wrote to stderr is the argument."""


def ask(read: Callable[[], Any], name: str | None = None) -> Answer:
    """Call a reader.

    Args:
        read: The call.
        name: The file, which a refusal has to name.

    Raises:
        Fault: It raised something else than a UserError or an OSError, or its message is none for a reader.
    """
    try:
        return Answer(read())
    except (UserError, OSError) as error:
        return Answer(message=checked(explain(error), name))
    except Exception as error:
        raise Fault("traceback", last_line(error)) from error


def run_tool(main: Callable[[list[str]], None], argv: list[str], name: str | None = None) -> Answer:
    """Call a tool's ``main``; its value is what it printed.

    Raises:
        Fault: It ended with a traceback, or its message is none for a reader.
        Interrupted: It was interrupted.
    """
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main(argv)
            status = 0
        except SystemExit as stopped:
            status = int(stopped.code or 0)
    return judged(status, out.getvalue(), err.getvalue(), name)


def judged(status: int, out: str, err: str, name: str | None = None) -> Answer:
    """The answer of a tool that ended with a status after it had written so much."""
    if "Traceback" in err or status == 1:
        raise Fault("traceback", of_text(err))
    if status == 0:
        return Answer(out)
    if status != 2:
        raise Interrupted(err)
    before, mark, message = err.rpartition("error: ")
    if not mark:
        raise Fault("wrong", f"status 2 without 'error: ': {err[-200:]!r}")
    if before.strip():
        raise Fault("wrong", f"more than one message: {before.strip()[-200:]!r}")
    return Answer(message=checked(message.removesuffix("\n"), name))


def checked(message: str, name: str | None) -> str:
    """The message, if somebody can use it."""
    lines = message.split("\n")
    if not message.strip() or re.fullmatch(r"(None|[A-Z][\w ]+): 'None'", message):  # an OSError of no file
        raise Fault("wrong", f"an empty message: {message!r}")
    if len(lines) > MOST_LINES or (len(lines) > 1 and not lines[0].endswith(":")):
        raise Fault("wrong", f"a message of {len(lines)} lines: {message[:200]!r}")
    longest = max(len(PATH.sub("/", line)) for line in lines)
    if longest > LONGEST:
        raise Fault("wrong", f"a line of {longest} characters: {message[:200]!r}")
    if name is not None and name not in message:
        raise Fault("wrong", f"the message does not name {name}: {message[:300]!r}")
    return message


def last_line(error: BaseException) -> str:
    """An exception, and the last place in this project that it went through."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if is_own(frame.filename)]
    where = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
    text = str(error).splitlines()[0][:200] if str(error) else ""
    return f"{type(error).__name__}: {text}{where}"


def of_text(err: str) -> str:
    """The same from a printed traceback."""
    places = [place for place in re.findall(r'File "([^"]+)", line (\d+)', err) if is_own(place[0])]
    where = f" at {Path(places[-1][0]).name}:{places[-1][1]}" if places else ""
    errors = re.findall(r"^([\w.]+(?:Error|Exception|Warning|Interrupt|Exit|Found)\b.*)", err, re.MULTILINE)
    return (errors[-1][:200] if errors else err.strip()[-200:]) + where


def is_own(filename: str) -> bool:
    """Whether it is a file of the packages or tools."""
    parts = Path(filename).parts
    own = ("ean_core", "segmentation", "classification", "crowd_counting", "tools")
    return any(part in own for part in parts) and "site-packages" not in parts and "knocks" not in parts
