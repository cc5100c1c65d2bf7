"""tools/gradcam.py: several models beside one another."""

import pytest
from matplotlib.image import imread

pytest.importorskip("pytorch_grad_cam")


@pytest.fixture(scope="module")
def gradcam(tool):
    return tool("gradcam")


@pytest.fixture(scope="module")
def image(small_voc) -> str:
    return str(sorted((small_voc / "JPEGImages").glob("*.jpg"))[-1])


def test_two_models(gradcam, finished, config, image, tmp_path, capsys):
    (as_run,) = finished.glob("*.py")
    models = ["--model", str(finished / "best.pth"), "--model", str(as_run), str(finished / "last.pth")]
    gradcam([image, *models, "--target", "person", "--out", str(tmp_path / "cam.png")])
    best, last, picture = capsys.readouterr().out.splitlines()
    assert best.startswith(f"{finished.name}/best: person, ")
    assert last.startswith(f"{finished.name}/last: person, ")
    assert "P = " in best
    assert picture == f"picture {tmp_path / 'cam.png'}"
    height, width = imread(tmp_path / "cam.png").shape[:2]
    assert width > 2 * height


def test_mistakes(gradcam, finished, image, tmp_path, capsys):
    model = ["--model", str(finished / "best.pth")]
    for arguments, message in (
        ([image, *model, "--target", "persn"], "--target 'persn' is none of the 21 classes (such as 'person')"),
        ([image, *model, "--stage", "5"], "--stage 5: the network uses stages 1 to 4"),
        ([str(tmp_path / "none.jpg"), *model], "does not exist"),
        ([image, "--model", "a.py", "b.pth", "c.pth"], "a model is a checkpoint, or a config and a checkpoint"),
        ([image, *model, "--out", "x.jpg"], "is no .png"),
    ):
        with pytest.raises(SystemExit) as stopped:
            gradcam(arguments if "--out" in arguments else [*arguments, "--out", str(tmp_path / "no.png")])
        out, err = capsys.readouterr()
        assert (stopped.value.code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1
    assert not (tmp_path / "no.png").exists()
