"""Who is trained in a verification, what a budget buys, and images that a search has seen."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from classification.datasets import load_images
from ean_core.cells import Genotype
from ean_core.verification.plan import choose, contestants, duration, plan_in_words, read_duration
from ean_core.verification.setup import Search, seen_by_search

CIFAR = {"type": "ean_core.EANCifarResNet", "depth": 29, "attention": {"type": "SE", "reduction": 16}}
RESNET = {"type": "torchvision", "name": "resnet18", "out_indices": (4,)}


def search_of(result: dict | None = None, cells: bool = False, cfg: dict | None = None) -> Search:
    return Search(Path("search"), Config(cfg or {}), result or {}, cells)


def training(backbone: dict, **changes: object) -> Config:
    return Config({"model": {"backbone": {**backbone, **changes}}})


def test_schemes_of_the_same_density() -> None:
    cfg = training(CIFAR, scheme="011-000-100")
    who = contestants(search_of(), cfg, 6, more=["111-000-000", "011-000-100"])
    by_name = {c.name: c for c in who}
    named = ["found", "plain", "share-full", "org-full", "111-000-000"]
    assert list(by_name) == [*named, *(f"random{i}" for i in range(1, 7))]
    assert by_name["plain"].backbone["attention"] is None
    assert by_name["share-full"].backbone == {"scheme": "111-111-111", "sharing": "stage"}
    assert by_name["org-full"].backbone == {"scheme": "111-111-111", "sharing": "block"}
    drawn = [c.scheme for c in who if c.group == "random"]
    assert len({*drawn, by_name["found"].scheme}) == 7
    assert {text.count("1") for text in drawn} == {3}
    assert {c.density for c in who if c.group == "random"} == {3 / 9}
    assert [c.scheme for c in contestants(search_of(), cfg, 3)[-3:]] == drawn[:3]  # more schemes keep the first
    assert [c.scheme for c in contestants(search_of(), cfg, 3, seed=1)[-3:]] != drawn[:3]


def test_no_network_twice() -> None:
    few = training({**CIFAR, "depth": 11}, scheme="1-0-0")
    assert sorted(c.scheme for c in contestants(search_of(), few, 9) if c.group == "random") == ["0-0-1", "0-1-0"]
    full = [c.name for c in contestants(search_of(), training(CIFAR, scheme="full"), 3)]
    assert full == ["found", "plain", "org-full"]
    none = [c.name for c in contestants(search_of(), training(CIFAR, scheme="none"), 3)]
    assert none == ["found", "share-full", "org-full"]


def test_plugged_networks_share_by_point() -> None:
    backbone = {"type": "ean_core.Plugged", "network": RESNET, "attention": {"type": "SE", "reduction": 4}, "size": 32}
    who = {c.name: c for c in contestants(search_of(), training(backbone, scheme="10-01-10-01"), 1)}
    assert who["org-full"].backbone["sharing"] == "point"
    assert who["random1"].density == 0.5


def test_genotypes() -> None:
    result = {"operations": ["none", "sep_conv_3x3", "skip_connect"], "attentions": ["none", "SE"]}
    cfg = Config({"model": {"backbone": {"type": "ean_core.CellNetwork", "genotype": "att-darts"}}})
    who = contestants(search_of(result, cells=True), cfg, 3)
    assert [c.name for c in who] == ["found", "no-attention", "random1", "random2", "random3"]
    found, bare, *drawn = (Genotype.parse(c.backbone["genotype"]) for c in who)
    assert bare == found.with_attention(None)
    for genotype in drawn:
        edges = [edge for _, cell in genotype.cells() for pair in cell for edge in pair]
        assert len(genotype.normal) == len(found.normal)
        assert {edge.operation for edge in edges} <= {"sep_conv_3x3", "skip_connect"}
        assert {edge.attention for edge in edges} <= {None, "SE"}
    with pytest.raises(ValueError, match="found cells"):
        contestants(search_of(result, cells=True), cfg, 3, more=["1"])


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("budget", [60.0, 100.0, 333.0, 5000.0])
def test_a_budget_is_kept_and_used(budget: float, workers: int) -> None:
    run, fixed = 5.0, 4
    if math.ceil(2 * fixed / workers) * run > budget:
        with pytest.raises(ValueError, match="budget"):
            choose(budget, run, workers, fixed)
        return
    random, seeds = choose(budget, run, workers, fixed)
    assert seeds >= 2
    assert math.ceil((fixed + random) * seeds / workers) * run <= budget
    if random < 40:
        assert math.ceil((fixed + random + 1) * seeds / workers) * run > budget  # not one more
    assert seeds == 10 or (seeds + 1) * (fixed + seeds + 1) > workers * (budget // run) or seeds == 2
    assert choose(budget, run, workers, fixed, random=0)[0] == 0
    assert choose(budget, run, workers, fixed, seeds=2)[1] == 2


def test_a_budget_that_is_too_small_says_what_it_takes() -> None:
    with pytest.raises(ValueError, match=r"budget of 30 s is too small: 2 seeds of 4 networks take about 40 s"):
        choose(30, 10, 2, 4)


def test_the_plan_in_words() -> None:
    text = plan_in_words(4, 5, 5, 60, 2, None, "top1")
    assert "9 networks (5 of them random) x 5 seeds = 45 runs of about 1 min 0 s, 2 at once: 23 min" in text
    assert "paired difference of 1.68 SD" in text  # see test_paired
    assert "1.68 SD is found with 80 % power" in text
    assert "3.36 top1, by the SD of 2.00" in plan_in_words(4, 5, 5, 60, 2, 2.0, "top1")
    assert "no interval" in plan_in_words(4, 5, 1, 60, 2, None, "top1")


def test_durations() -> None:
    assert [read_duration(text) for text in ("2h", "90m", "45s", "1h30m", "1.5d")] == [7200, 5400, 45, 5400, 129600]
    for text in ("", "2", "h", "2h 3", "-2h", "2x"):
        with pytest.raises(ValueError, match="--budget"):
            read_duration(text)
    found = [duration(seconds) for seconds in (3.21, 45, 90, 1260, 5400, 400_000)]
    assert found == ["3.2 s", "45 s", "1 min 30 s", "21 min", "1 h 30 min", "4.6 days"]


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_copied_image_is_found(tmp_path: Path, in_memory: bool) -> None:
    generator = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 3)):
        for name in ("cat", "dog"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (20, 24, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    data = {"type": "classification.datasets.build_dataset", "root": str(tmp_path), "layout": "folder"}
    data |= {"image_size": 16, "in_memory": in_memory, "held_out": 2}

    def config(loader: str, **changes: object) -> dict:
        return {"task": "classification", f"{loader}_dataloader": {"dataset": {**data, **changes}}}

    search = search_of(cfg=config("val", part="search_val"))
    assert seen_by_search(search, Config(config("test", part="test"))) == ([], 6)
    # The first images of a class are D_val; one that D_val has not may be copied.
    with Image.open(tmp_path / "train" / "dog" / "1.png") as image:
        image.save(tmp_path / "test" / "cat" / "another.png", compress_level=1)  # other bytes, the same pixels
    shutil.copy(tmp_path / "train" / "dog" / "3.png", tmp_path / "test" / "cat" / "of_d_train.png")
    load_images.cache_clear()
    found, number = seen_by_search(search, Config(config("test", part="test")))
    assert (len(found), number) == (1, 8)
    with pytest.raises(ValueError, match="16x16x3 and the test images to 12x12x3"):
        seen_by_search(search, Config(config("test", part="test", image_size=12)))


def test_images_of_another_task_are_compared_by_their_files(tmp_path: Path) -> None:
    from crowd_counting.toy_crowds import make_toy_crowd

    root = str(make_toy_crowd(tmp_path, "B", train=3, test=2))
    crowd = {"type": "crowd_counting.dataset.CrowdDataset", "root": root, "part": "B"}
    own = {"task": "crowd_counting", "val_dataloader": {"dataset": {**crowd, "split": "val"}}}
    test = {"task": "crowd_counting", "test_dataloader": {"dataset": {**crowd, "split": "test"}}}
    train = {"task": "other", "test_dataloader": {"dataset": {**crowd, "split": "val"}}}
    assert seen_by_search(search_of(cfg=own), Config(test))[0] == []
    found, number = seen_by_search(search_of(cfg=own), Config(train))
    assert len(found) == number > 0
    assert found[0].endswith(".jpg")
