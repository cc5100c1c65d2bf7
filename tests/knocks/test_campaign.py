"""The campaign itself: what it counts, repeats and lists."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from ean_core.errors import UserError
from knocks import campaign
from knocks.answers import Fault, ask, run_tool
from knocks.campaign import Case, Kind, choose, table
from knocks.damage import damaged, with_wrong_value
from knocks.world import World

WORLD = World(Path("nowhere"), {})


def raises(error: BaseException) -> None:
    raise error


def well(world: World, folder: Path, random: Random) -> int:
    (folder / "file").write_text("gone with the case")
    return 3


def bad(world: World, folder: Path, random: Random) -> None:
    raise Fault("wrong", f"{folder}/last.pth is lost, {random.random()}")


def dies(world: World, folder: Path, random: Random) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(world: World, folder: Path, random: Random) -> None:
    time.sleep(60)


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, kinds: dict[str, Kind]) -> Sequence[campaign.Result]:
    monkeypatch.setattr(campaign, "KINDS", kinds)
    return campaign.campaign(WORLD, list(kinds), 1.5, 1, folder)


def test_what_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kinds = {name: Kind(knock, 1, 30) for name, knock in (("well", well), ("bad", bad), ("dies", dies))}
    results = run(monkeypatch, tmp_path, {**kinds, "hangs": Kind(hangs, 1, 0.3)})
    found = {result.case.kind: result for result in results if result.case.number == 0}
    assert (found["well"].verdict, found["well"].well) == ("well", 3)
    assert found["bad"].what == f"/last.pth is lost, {choose(1, Case('bad', 0)).random()}"
    assert found["dies"].what.startswith("its process died, status -9")
    assert found["hangs"].what == "hang: more than 0 s"
    assert list(tmp_path.iterdir()) == []
    lines = table(results, {"disks": "no root"}).splitlines()
    tries = 3 * sum(result.case.kind == "well" for result in results)
    assert f"| well | {tries} | {tries} | 0 | 0 |" in lines
    assert "not tried: disks: no root" in lines
    assert f"--case bad:0  wrong: {found['bad'].what}" in lines


def test_choices_depend_on_seed_kind_and_number() -> None:
    cases = [(1, "files", 0), (2, "files", 0), (1, "kills", 0), (1, "files", 1)]
    numbers = [choose(seed, Case(kind, number)).random() for seed, kind, number in cases]
    assert len(set(numbers)) == 4
    assert choose(1, Case("files", 0)).random() == numbers[0]


@pytest.mark.parametrize(
    ("error", "kind", "what"),
    [
        (KeyError("a"), "traceback", "KeyError: 'a'"),
        (UserError(""), "wrong", "an empty message"),
        (UserError("'b.json' is wrong"), "wrong", "does not name a.json"),
        (UserError("'a.json' is\nwrong"), "wrong", "a message of 2 lines"),
        (OSError("'a.json' " + "is wrong " * 100), "wrong", "a line of 9"),
        (OSError(28, "No space left on device"), "wrong", "does not name a.json"),
    ],
)
def test_what_is_no_answer(error: Exception, kind: str, what: str) -> None:
    with pytest.raises(Fault, match=what) as fault:
        ask(lambda: raises(error), "a.json")
    assert fault.value.kind == kind


def test_what_is_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(lambda: 3, "a.json").value == 3
    assert ask(lambda: raises(UserError("'a.json' is wrong")), "a.json").message == "'a.json' is wrong"

    def main(argv: list[str]) -> None:
        import sys

        print(argv[0], file=sys.stderr)
        raise SystemExit(int(argv[1]))

    assert run_tool(main, ["error: 'a' is wrong", "2"]).message == "'a' is wrong"
    for argv, what in ((["error: 'a' is wrong", "1"], "error"), (["warning\nerror: b", "2"], "more than one message")):
        with pytest.raises(Fault, match=what):
            run_tool(main, argv)


def test_damage_is_never_none() -> None:
    data = bytes(range(40))
    made = [damaged(data, Random(number)) for number in range(300)]
    assert data not in made
    assert len(set(made)) > 200
    assert damaged(b"", Random(0)) != b""
    tree = {"a": [1, {"b": 2}], "c": "d"}
    trees = [str(with_wrong_value(tree, Random(number))) for number in range(200)]
    assert len(set(trees)) > 40
    assert tree == {"a": [1, {"b": 2}], "c": "d"}
