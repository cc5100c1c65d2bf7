"""Looking at every file of a data set before a training starts, and reporting what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ean_core.errors import UserError

SHOWN = 10
T = TypeVar("T")


def find_problems(items: Iterable[T], look: Callable[[T], Iterable[str]]) -> list[str]:
    """What is wrong with some items, in their order; several are looked at at once, in threads.

    Args:
        items: For example paths.
        look: An item -> a sentence for each of its problems. What it raises is raised here.
    """
    # Pillow lets go of the interpreter lock while it decodes. More threads than cores hide slow disks.
    with ThreadPoolExecutor(max_workers=min(8, 2 * (os.cpu_count() or 1))) as pool:
        return [problem for found in pool.map(lambda item: list(look(item)), items) for problem in found]


def report_problems(problems: Sequence[str], where: str, advice: str) -> None:
    """Report problems; without any, do nothing.

    Args:
        problems: One sentence each.
        where: Where they are, after "3 problems": ``"with the 20 images of data"``.
        advice: What to do, before "and run again".

    Raises:
        UserError: There are problems. The first line says how many, where, and what to do; the first ten follow, one a
            line.
    """
    if not problems:
        return
    lines = [f"{len(problems):,} problem{'s' * (len(problems) > 1)} {where}; {advice}, and run again:"]
    lines += [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  ... and {len(problems) - SHOWN:,} more")
    raise UserError("\n".join(lines))
