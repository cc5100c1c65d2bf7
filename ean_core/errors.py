"""What a user's mistake raises, and where the words of MMEngine's registries become such a mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

UNKNOWN_TYPE = re.compile(r"(?P<type>\S+) is not in the (?P<registry>\S+) registry")
WRONG_ARGUMENT = re.compile(
    r"(?P<where>class `\w+` in \S+: )?(\w+\.)*(__init__|\w+)\(\) (?P<what>(got|missing|takes) .*)"
)


class UserError(ValueError):
    """A mistake that the user can mend. Its message says what is wrong, where, and what to do.

    The command line prints the message and exits with status 2. Any other ``ValueError`` is a bug.
    """


@contextmanager
def building(what: str) -> Iterator[None]:
    """Turn an unknown ``type`` and a wrong argument in a config into a :class:`UserError` where the config is built.

    MMEngine raises ``KeyError`` for the one and ``TypeError`` for the other, as a bug in a constructor might.

    Args:
        what: The part of the config that is built, for the message.
    """
    try:
        yield
    except KeyError as error:
        unknown = UNKNOWN_TYPE.search(str(error))
        if unknown is None:
            raise
        kind = unknown["type"].strip("'\"")
        raise UserError(
            f"{what}: unknown type '{kind}' (it is not in the registry {unknown['registry']}): check its spelling; a "
            "class of your own is named with its module, as 'module.Class'"
        ) from error
    except TypeError as error:
        wrong = WRONG_ARGUMENT.match(str(error))
        if wrong is None:
            raise
        raise UserError(f"{what}: {wrong['where'] or ''}{wrong['what']}") from error
