"""Run the commands of the README and docs/ as a new user would, in a folder with small data under the documents' names.

The notebooks of docs/ are run whole; the outputs of their cells have to be of the kinds that are kept in them.

    python tests/run_documents.py [PART_OF_A_COMMAND_OR_DOCUMENT ...]

Each is run as written, with options added that make it short (``SHORT``). A process is forked for each, so that torch
and the MM libraries are imported once; its processor time is shown. The exit status is 1 if one fails.
"""

import copy
import os
import re
import resource
import runpy
import shlex
import shutil
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
sys.path[0:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["OMP_NUM_THREADS"] = "1"

from ean_testing.document_world import make_world  # noqa: E402
from ean_testing.documents import Command, commands, documents, files, program, reason_not_run  # noqa: E402

LOADERS = [f"{part}_dataloader.num_workers=0" for part in ("train", "val", "test")]
FEW = ["train_dataloader.batch_size=2", "train_cfg.max_epochs=1", "train_cfg.val_interval=1", *LOADERS]
CROP = "train_dataloader.dataset.augment.crop=(64,64)"
CELLS = ["layout=cifar100", "held_out=4", "train_dataloader.batch_size=8", "train_cfg.max_epochs=1", "search.warmup=0"]
CELLS += ["image_size=16", "model.backbone.image_size=16", "model.backbone.layers=3", "model.backbone.nodes=2"]
CELLS += ["search.attentions=['none','SE']"]
CELL = ["model.backbone.channels=4", "model.backbone.layers=3"]
CIFAR_CELL = ["layout=cifar100", "image_size=16", "model.backbone.image_size=16", *CELL]
# Options added to a command: those of the first entry all of whose words it contains.
SHORT: list[tuple[tuple[str, ...], list[str]]] = [
    (("ean train ean_se_voc",), [*FEW, "crop_size=48"]),
    (("tools/verify.py",), ["train_cfg.max_epochs=1", "train_dataloader.batch_size=16"]),
    (("tools/train.py", "--resume"), [*FEW, "train_cfg.max_epochs=2", "crop_size=48"]),
    (("tools/train.py", "cls/att_darts", "--toy"), ["train_cfg.max_epochs=1", *CELL]),
    (("tools/train.py", "cls/att_darts_cifar"), [*FEW, "train_dataloader.batch_size=16", *CIFAR_CELL]),
    (("tools/train.py", "cls/att_darts_imagenet"), [*FEW, "image_size=64", *CELL, "model.backbone.image_size=64"]),
    (("tools/train.py", "seg/att_darts"), [*FEW, "crop_size=64", *CELL]),
    (("tools/train.py", "crowd/att_darts"), [*FEW, CROP, *CELL]),
    (("tools/train.py", "configs/seg"), [*FEW, "crop_size=48"]),
    (("tools/train.py", "my_config"), [*FEW, "crop_size=48"]),
    (("tools/train.py", "configs/crowd", "--toy"), ["train_cfg.max_epochs=1", "train_cfg.val_interval=1"]),
    (("tools/train.py", "configs/crowd"), [*FEW, CROP]),
    (("tools/train.py", "cifar100"), ["train_cfg.max_epochs=1", "train_dataloader.batch_size=16", "image_size=16"]),
    (("tools/train.py", "imagenet"), [*FEW, "train_dataloader.batch_size=8", "image_size=32"]),
    (("tools/search.py", "att_darts"), CELLS),
    (("tools/search.py", "imagenet"), [*FEW, "train_dataloader.batch_size=8", "image_size=32", "held_out=2"]),
    (("tools/search.py",), ["train_cfg.max_epochs=1", "train_dataloader.batch_size=16", "image_size=16", "held_out=2"]),
    (("tools/compare_strategies.py",), ["train_cfg.max_epochs=1", "train_dataloader.batch_size=16", "held_out=2"]),
    (("tools/test.py",), LOADERS),
]
FLAGS = {
    "tools/search.py": ["--steps", "2"],
    "tools/verify.py": ["--random", "1", "--seeds", "2"],
    "tools/compare_strategies.py": ["--seeds", "1", "--evaluations", "6", "--strategies", "random", "hsp"],
}
DEMO = [
    "python tools/train.py configs/seg/ean_se_voc.py --toy --work-dir work_dirs/demo",
    "python tools/test.py configs/seg/ean_se_voc.py work_dirs/demo/best.pth --toy --work-dir work_dirs/demo "
    "--show-dir work_dirs/demo/show",
]


def shorten(text: str) -> list[str]:
    """The words of a command, with the options that make it short."""
    words = shlex.split(program(text).replace("--pretrained torchvision", "--pretrained torchvision.pth"))
    tool = words[1] if len(words) > 1 else ""
    if words[0] == "ean":
        tool = f"tools/{tool}.py"
        text = f"{tool} {text}"
        words[:1] = ["python", "tools/__main__.py"]
    extra = next((options for needed, options in SHORT if all(word in text for word in needed)), [])
    if re.search(r"train_dataloader\.batch_size=[12]\b", text):  # small already, and perhaps what it is about
        extra = [option for option in extra if not option.startswith("train_dataloader.batch_size")]
    if extra and "--cfg-options" in words:
        end = words.index("--cfg-options") + 1
        while end < len(words) and not words[end].startswith("--"):
            end += 1
        words[end:end] = extra
    elif extra:
        words += ["--cfg-options", *extra]
    flags = FLAGS.get(tool, []) if "att_darts" not in text else []
    for flag in flags[::2]:
        if flag in words:  # their value is the first of the documents'
            break
    else:
        words += flags
    return words


def run(words: list[str], environment: dict[str, str], log: Path) -> int:
    """Run a Python program in a forked process; returns its exit status."""
    if words[0] != "python":
        log.write_text(f"no way to run {words[0]!r}: teach tests/run_documents.py, or list it in tests/documents.py\n")
        return 1
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            os.environ.update(environment)
            sys.path[0:0] = environment.get("PYTHONPATH", "").split(":") if "PYTHONPATH" in environment else []
            sys.argv = words[1:]
            try:
                if words[1] == "-c":
                    exec(compile(words[2], "-c", "exec"), {"__name__": "__main__"})
                else:
                    runpy.run_path(words[1], run_name="__main__")
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(status)


def provide(text: str, log: Path) -> None:
    """Make what a command needs of a run that no document shows before it: a checkpoint, a search."""
    for name, file in re.findall(r"work_dirs/(\w+)/(best\.pth|scheme\.json|search\.jsonl)", text):
        config = next(iter(sorted(Path("configs").glob(f"*/{name}.py"))), None)
        if config is not None and not Path("work_dirs", name, file).exists():
            tool = "train" if file == "best.pth" else "search"
            run(shorten(f"python tools/{tool}.py {config}"), {}, log)


def run_notebook(path: Path, log: Path) -> int:
    """Run a notebook in this folder; returns 1 if a cell fails, or has outputs of other kinds than before."""
    kept = nbformat.read(path, as_version=4)
    ran = copy.deepcopy(kept)
    try:
        sockets = Config(KernelManager={"transport": "ipc"})  # of files: TCP would be open to others on this machine
        NotebookClient(ran, timeout=900, kernel_name="python3", config=sockets).execute()
    except CellExecutionError as error:
        log.write_text(str(error))
        return 1
    for before, after in zip(kept.cells, ran.cells, strict=True):
        old, new = ([set(out.data) for out in cell.get("outputs", []) if "data" in out] for cell in (before, after))
        if len(old) != len(new) or not all(map(set.issubset, old, new)):  # of two forms of a picture one is kept
            log.write_text(f"{before.source}\nshows {new}, and showed {old}")
            return 1
    return 0


def cpu_seconds() -> float:
    """Processor time of the processes forked so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def title(command: Command) -> str:
    """What is shown of a command."""
    return " ".join(command.text.split())[:110]


def preload() -> None:
    """Import what most commands need; a forked process has it at once."""
    import torch

    torch.set_num_threads(1)
    for module in ("classification.application", "crowd_counting.application", "ean_core.engine"):
        import_module(module)
    from segmentation.stack import import_mmseg

    import_mmseg()


def main(patterns: list[str]) -> int:
    """Run the commands; returns how many failed."""
    shown: dict[tuple[str, str], Command] = {}  # once each, but a training once a document: others follow upon it
    written: dict[str, str] = {}
    for name, text in documents().items():
        written |= files(text)
        for command in commands(name, text):
            for line in DEMO if command.text == "make demo" else [command.text]:
                shown.setdefault((name if "tools/train.py" in line else "", line), Command(name, line))
    preload()
    world = Path(tempfile.mkdtemp(prefix="documents-"))
    make_world(world)
    os.chdir(world)
    for name, text in written.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    failed = 0
    for command in shown.values():
        if patterns and not any(pattern in command.text or pattern in command.document for pattern in patterns):
            continue
        if reason_not_run(command) is not None:
            print(f"not run          {title(command)}", flush=True)
            continue
        settings = dict(part.split("=", 1) for part in command.text[: -len(program(command.text))].split())
        log, began = world / "log.txt", cpu_seconds()
        provide(command.text, log)
        status = run(shorten(command.text), settings, log)
        print(f"{'ok' if status == 0 else 'FAILED':<7} {cpu_seconds() - began:6.1f} s {title(command)}", flush=True)
        if status:
            failed += 1
            print(f"  in {command.document}: exit status {status} of {shlex.join(shorten(command.text))[:1000]}")
            print("".join(f"  | {line}\n" for line in log.read_text().splitlines()[-8:]), flush=True)
    for path in sorted((ROOT / "docs").glob("*.ipynb")):
        if patterns and not any(pattern in str(path) for pattern in patterns):
            continue
        log, began = world / "log.txt", cpu_seconds()
        status = run_notebook(path, log)
        print(f"{'FAILED' if status else 'ok':<7} {cpu_seconds() - began:6.1f} s docs/{path.name}", flush=True)
        if status:
            failed += 1
            print("".join(f"  | {line}\n" for line in log.read_text().splitlines()[-8:]), flush=True)
    os.chdir(ROOT)
    shutil.rmtree(world)
    print(f"{failed} failed" if failed else "every command works")
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
