"""What holds for every input: it is read as it was written, or refused in one line.

Each property takes its inputs from Hypothesis. ``test_properties.py`` tries a few of them, the campaign thousands.
"""

import contextlib
import io
import json
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.extra import numpy as arrays
from mmengine.config import Config
from PIL import Image

from classification.sources import read_source
from crowd_counting.points import read_points
from ean_core.cells import Genotype
from ean_core.checkpoint import read_checkpoint, write_checkpoint
from ean_core.engine import load_config
from ean_core.engine.config import read_class_names
from ean_core.files import read_json_lines, write_json_lines
from ean_core.images import read_image
from ean_core.inference.stored_config import parse_config, stored_config
from ean_core.scheme import ConnectionScheme, read_scheme_file
from knocks import formats
from knocks.answers import Fault, ask
from knocks.runs import PROGRAMS, ROOT, first_difference
from knocks.world import World
from segmentation.voc import encode_mask, list_path, read_list

_home = tempfile.TemporaryDirectory(prefix="hypothesis-")  # else it leaves .hypothesis where it runs
set_hypothesis_home_dir(_home.name)
COMMON = dict(database=None, deadline=None, suppress_health_check=list(HealthCheck))
QUICK = settings(max_examples=12, derandomize=True, **COMMON)
MANY = settings(max_examples=300, phases=[Phase.generate], **COMMON)
SLOW = {"any_entry_is_taken_or_refused": 20}  # properties that take longer, and how many inputs

Property = Callable[[], None]
PROPERTIES: dict[str, Property] = {}
BLOCKS = st.lists(st.integers(1, 40), min_size=1, max_size=6)
# Control characters and lone surrogates are in no text file; \x85 and its like end lines.
LETTERS = st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp"))
NAMES = st.text(LETTERS, min_size=1, max_size=12).map(str.strip).filter(bool)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | st.text(LETTERS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(LETTERS), inner, max_size=4),
    max_leaves=12,
)


def holds_for(**inputs: Any) -> Callable[[Callable[..., None]], Property]:
    """Register a property of these inputs."""

    def register(check: Callable[..., None]) -> Property:
        PROPERTIES[check.__name__] = given(**inputs)(check)
        return PROPERTIES[check.__name__]

    return register


@contextlib.contextmanager
def a_file(name: str, content: bytes | str = b"") -> Any:
    """A file in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        yield path


def require(read: Any, written: Any, what: str) -> None:
    """Two values are one, to the last bit."""
    if difference := first_difference(read, written):
        raise Fault("wrong", f"{what}: {difference}")


# -- schemes


@holds_for(blocks=BLOCKS, data=st.data())
def schemes_are_read_as_written(blocks: list[int], data: Any) -> None:
    bits = data.draw(st.lists(st.booleans(), min_size=sum(blocks), max_size=sum(blocks)))
    rest = iter(bits)
    scheme = ConnectionScheme(tuple(tuple(next(rest) for _ in range(n)) for n in blocks))
    text = "-".join("".join("01"[bit] for bit in stage) for stage in scheme.stages)
    require(str(scheme), text, "the text of a scheme")
    for form in (text, text.replace("-", ""), scheme):
        require(str(ConnectionScheme.parse(form, blocks)), text, "a scheme")
    require(str(ConnectionScheme.from_codes(scheme.to_codes(), blocks)), text, "codes")
    with a_file("scheme.json", json.dumps({"scheme": text})) as path:
        require(read_scheme_file(path), text, "scheme.json")


@holds_for(text=st.text() | st.text("01-"), blocks=BLOCKS)
def any_text_is_a_scheme_or_refused(text: str, blocks: list[int]) -> None:
    answer = ask(lambda: ConnectionScheme.parse(text, blocks))
    if answer.message is None and text not in ("full", "none"):
        require(str(answer.value).replace("-", ""), text.replace("-", ""), "a scheme")


@holds_for(codes=st.lists(st.integers(-2, 40) | st.integers(), max_size=6), blocks=BLOCKS)
def any_codes_are_a_scheme_or_refused(codes: list[int], blocks: list[int]) -> None:
    answer = ask(lambda: ConnectionScheme.from_codes(codes, blocks))
    if answer.message is None:
        require(list(answer.value.to_codes()), codes, "codes")


@holds_for(content=PLAIN | st.fixed_dictionaries({"scheme": PLAIN, "attention": PLAIN, "points": PLAIN}))
def any_json_is_a_scheme_file_or_refused(content: Any) -> None:
    with a_file("scheme.json", json.dumps(content)) as path:
        for options in ({}, {"attention": {"type": "SE"}}, {"points": ["a", "b"]}):
            answer = ask(lambda options=options: read_scheme_file(path, **options), "scheme.json")
            if answer.message is None:
                require(answer.value, content["scheme"], "a scheme")


# -- genotypes


@holds_for(number=st.integers(0, 1 << 40), nodes=st.integers(1, 6))
def genotypes_are_read_as_written(number: int, nodes: int) -> None:
    genotype = Genotype.random(torch.Generator().manual_seed(number), nodes=nodes)
    require(str(Genotype.parse(str(genotype))), str(genotype), "a genotype")
    for name, content in (("g.json", json.dumps({"genotype": genotype.as_dict()})), ("g.txt", str(genotype))):
        with a_file(name, content) as path:
            require(str(Genotype.load(path)), str(genotype), name)


@holds_for(text=st.text() | st.text(LETTERS).map(lambda text: f"normal: {text}; reduce: {text}"), data=PLAIN)
def any_text_is_a_genotype_or_refused(text: str, data: Any) -> None:
    ask(lambda: Genotype.parse(text))
    for name, content in (
        ("g.json", json.dumps({"genotype": data})),
        ("g.json", json.dumps(data)),
        ("g.txt", text.encode(errors="replace")),
    ):
        with a_file(name, content) as path:
            ask(lambda path=path: Genotype.load(path), path.name)


# -- logs, lists, names


@holds_for(entries=st.lists(st.dictionaries(st.text(), PLAIN, max_size=4), max_size=6), cut=st.integers(0, 30))
def lines_are_read_as_written(entries: list[dict[str, Any]], cut: int) -> None:
    with a_file("history.jsonl") as path:
        write_json_lines(path, entries)
        require(read_json_lines(path), entries, "lines")
        if entries:  # a kill cut the last line off
            whole = path.read_bytes()
            last = len(whole.splitlines(keepends=True)[-1])
            path.write_bytes(whole[: -min(1 + cut, last)])
            require(read_json_lines(path), entries[:-1], "lines before one that was cut off")


@holds_for(names=st.lists(NAMES, min_size=2, max_size=6, unique=True))
def names_are_read_as_written(names: list[str]) -> None:
    with a_file("names.txt", "\n".join(names) + "\n") as path:
        require(list(read_class_names(path)), names, "class names")
        ids = list_path(path.parent, "train")
        ids.parent.mkdir(parents=True)
        ids.write_bytes(path.read_bytes())
        require(read_list(path.parent, "train"), names, "ids")


# -- data


@holds_for(points=arrays.arrays(np.float64, st.tuples(st.integers(1, 5), st.just(2)), elements=NUMBERS))
def points_are_read_as_written(points: np.ndarray) -> None:
    for suffix in (".csv", ".json", ".npy", ".mat"):
        with a_file(f"a{suffix}") as path:
            require(read_points(formats.write_points(path, points)), points, suffix)


@holds_for(text=st.text() | st.text("0123456789.,;xy \n\"'-einfa"), content=PLAIN | st.lists(st.lists(st.integers())))
def any_annotation_is_read_or_refused(text: str, content: Any) -> None:
    for name, written in (
        ("a.csv", text.encode(errors="replace")),
        ("a.json", json.dumps(content)),
        ("a.json", json.dumps({"points": content})),
    ):
        with a_file(name, written) as path:
            answer = ask(lambda path=path: read_points(path), name)
            if answer.message is None and not formats.are_points(answer.value):
                raise Fault("wrong", f"{name}: {answer.value!r} are no points")


@holds_for(pixels=arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def images_are_read_as_written(pixels: np.ndarray) -> None:
    for suffix in (".png", ".bmp", ".ppm", ".tif"):
        with a_file(f"a{suffix}") as path:
            Image.fromarray(pixels).save(path)
            require(read_image(path), pixels, suffix)
    with a_file("a.png", encode_mask(pixels[:, :, 0])) as path, Image.open(path) as mask:
        require(np.asarray(mask), pixels[:, :, 0], "a mask")


@holds_for(labels=st.lists(st.integers(0, 2), min_size=1, max_size=4), number=st.integers(0, 1 << 30))
def cifar_is_read_as_written(labels: list[int], number: int) -> None:
    data = np.random.default_rng(number).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    with a_file("meta", pickle.dumps({"fine_label_names": ["a", "b", "c"]}, 2)) as meta:
        home = meta.parent / "cifar-100-python"
        home.mkdir()
        meta.rename(home / "meta")
        (home / "train").write_bytes(pickle.dumps({"data": data, "fine_labels": labels}, 2))
        source = read_source(meta.parent, "cifar100", "train")
        require(source.items, data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), "images")
        require(source.labels.tolist(), labels, "labels")


# -- checkpoints and the configs in them


@holds_for(
    plain=st.dictionaries(st.text(LETTERS), PLAIN, max_size=4),
    array=arrays.arrays(arrays.floating_dtypes(endianness="=") | arrays.integer_dtypes(endianness="="),
                        arrays.array_shapes(max_dims=4, max_side=4)),
)  # fmt: skip
def checkpoints_are_read_as_written(plain: dict[str, Any], array: np.ndarray) -> None:
    content = {"state_dict": {"weight": torch.from_numpy(array.copy())}, "meta": plain}
    with a_file("last.pth") as path:
        write_checkpoint(content, path)
        require(read_checkpoint(path), content, "a checkpoint")


@holds_for(entries=st.dictionaries(st.from_regex(r"[a-z]{3,8}x", fullmatch=True), PLAIN, max_size=4))
def configs_are_read_as_written(entries: dict[str, Any]) -> None:
    text = "".join(f"{key} = {value!r}\n" for key, value in entries.items())
    require(parse_config(text), entries, "a config in a checkpoint")
    with a_file("mine.py", text) as path:
        require(Config.fromfile(path).to_dict(), entries, "a config")


@holds_for(text=st.text() | st.text("abcdict=()[]{}'\",.0123 \n-*") | PLAIN.map(lambda value: f"task = {value!r}\n"))
def any_text_is_a_stored_config_or_refused(text: str) -> None:
    ask(lambda: stored_config({"meta": {"cfg": text}}, "best.pth"), "best.pth")


# -- anything at all


@holds_for(name=st.sampled_from(list(formats.FORMATS)), data=st.binary(max_size=300), number=st.integers(0, 1 << 30))
def any_bytes_are_read_or_refused(name: str, data: bytes, number: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        form = formats.FORMATS[name]
        path = form.write(Path(folder), Random(number))
        path.write_bytes(data)
        answer = ask(lambda: form.read(path), path.name if form.named else None)
        if answer.message is None and not form.sound(answer.value):
            raise Fault("wrong", f"{name}: an unsound value was read: {answer.value!r}")


@holds_for(name=st.sampled_from(list(formats.FORMATS)), number=st.integers(0, 1 << 40))
def damage_is_refused_or_sound(name: str, number: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        formats.knock(name, Path(folder), Random(number))


ENTRIES = st.sampled_from(["head", "train_list", "crop_size", "inference", "model", "model.backbone",
                           "model.backbone.depth", "model.backbone.attention", "model.backbone.scheme", "train_cfg",
                           "train_cfg.max_epochs", "train_dataloader", "param_scheduler", "optim_wrapper"])  # fmt: skip


@holds_for(name=ENTRIES, value=PLAIN)
def any_entry_is_taken_or_refused(name: str, value: Any) -> None:
    if _data:
        program = PROGRAMS["segment"]
        options = {name: value}
        with contextlib.redirect_stdout(io.StringIO()):
            ask(lambda: load_config(ROOT / program.config, data_root=_data[0] / program.data, options=options))


_data: list[Path] = []


def with_data(data: Path) -> None:
    """Let the properties of configs use the data sets in a folder."""
    _data[:] = [data]


def knock(world: World, folder: Path, random: Random) -> int:
    """Try hundreds of inputs of one property."""
    with_data(world.data)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        tempfile.tempdir = place
        name = random.choice(list(PROPERTIES))
        try:
            inputs = settings(MANY, max_examples=SLOW.get(name, MANY.max_examples))
            seed(random.randrange(1 << 40))(inputs(PROPERTIES[name]))()
        except Fault as fault:
            raise Fault(fault.kind, f"{name}: {fault}") from fault
        finally:
            tempfile.tempdir = None
    return inputs.max_examples
