"""benchmarks/scheme_correlation.py: trainings are done once, and their accuracies held against a supernet's."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from classification.toy_shapes import make_toy
from ean_core.analysis.correlation import compare_groups, correlate
from ean_core.files import read_json_lines
from ean_core.scheme import ConnectionScheme

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["model.backbone.depth=11", "image_size=16", "train_dataloader.batch_size=12", "train_cfg.max_epochs=1"]
CHOSEN = ["1-0-1", "0-0-0"]


@pytest.fixture(scope="module")
def benchmark_file() -> ModuleType:
    spec = spec_from_file_location("scheme_correlation", ROOT / "benchmarks" / "scheme_correlation.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_toy(tmp_path_factory.mktemp("data"), "cifar100", train=4, test=3))


def worth(scheme: str) -> float:
    return 50 + int(scheme.replace("-", ""), 2) ** 1.5


def arguments(data: str, out: Path, *more: str) -> list[str]:
    config = str(ROOT / "configs" / "cls" / "resnet164_share_se_cifar100.py")
    return [config, "--data-root", data, "--out", str(out), "--random", "4", *more, "--cfg-options", *SMALL]


def test_a_real_training(benchmark_file: ModuleType, data: str, light: None, tmp_path: Path) -> None:
    out = tmp_path / "alone.jsonl"
    benchmark_file.main([*arguments(data, out)[:-5], "--random", "0", "--schemes", "1-0-1", "--cfg-options", *SMALL])
    (line,) = read_json_lines(out)
    assert (line["scheme"], line["group"]) == ("1-0-1", "chosen")
    assert round(line["accuracy"] * 18 / 100, 6) in range(19)  # of 6 classes of 3 test images


def test_stopped_and_repeated(
    benchmark_file: ModuleType,
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained: list[str] = []

    def train(args: object, scheme: ConnectionScheme) -> dict[str, float]:
        if len(trained) == 3:
            trained.append("stopped")
            raise KeyboardInterrupt
        trained.append(str(scheme))
        return {"accuracy": worth(str(scheme)), "seconds": 1.0}

    monkeypatch.setattr(benchmark_file, "train_scheme", train)
    out, log = tmp_path / "alone.jsonl", tmp_path / "search.jsonl"
    whole = arguments(data, out, "--schemes", *CHOSEN, "--log", str(log))
    with pytest.raises(SystemExit):
        benchmark_file.main(whole)
    assert len(read_json_lines(out)) == 3
    schemes = [f"{a}-{b}-{c}" for a in "01" for b in "01" for c in "01"]
    known = {scheme: 40 + 7 * i % 5 + i for i, scheme in enumerate(schemes)}
    log.write_text("".join(json.dumps({"scheme": s, "accuracy": a, "failed": False}) + "\n" for s, a in known.items()))
    capsys.readouterr()
    benchmark_file.main(whole)
    lines = read_json_lines(out)
    assert [line["group"] for line in lines] == ["random"] * 4 + ["chosen"] * 2
    drawn = [line["scheme"] for line in lines[:4]]
    assert len(set(drawn)) == 4
    assert sorted(set(trained) - {"stopped"}) == sorted({*drawn, *CHOSEN})
    assert len(trained) == 1 + len({*drawn, *CHOSEN})  # none twice
    text = capsys.readouterr().out
    unique = sorted({*drawn, *CHOSEN})
    found = correlate([known[s] for s in unique], [worth(s) for s in unique])
    assert f"{len(unique)} schemes: Pearson {found.pearson:.3f}" in text
    assert f"Kendall {found.kendall:.3f}" in text
    test = compare_groups([worth(s) for s in drawn], [worth(s) for s in CHOSEN])
    assert f"t = {test.t:.2f}, {test.df:.1f} degrees of freedom" in text
    assert out.with_suffix(".png").is_file()

    log.write_text(log.read_text().splitlines()[0] + "\n")
    with pytest.raises(SystemExit) as stopped:
        benchmark_file.main(whole)
    assert stopped.value.code == 2
    assert "has no accuracy of" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        benchmark_file.main([*whole, "train_cfg.max_epochs=2"])
    assert stopped.value.code == 2
    assert "was made with another config or other options" in capsys.readouterr().err
