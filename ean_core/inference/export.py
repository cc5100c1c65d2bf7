"""A trained model as one file that other programs run: ONNX, TorchScript, or a torch ``ExportedProgram``.

The file's network takes RGB images as float32 (N, 3, H, W) with values 0..255: the normalisation is inside, and so is
the padding that a crowd counter needs. It returns what :class:`Graph` says. The file also holds a JSON text that
describes it (see :func:`describe`).
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from ean_core.errors import UserError
from ean_core.files import write_atomic
from ean_core.inference.predictor import Predictor
from ean_core.timing import interleave

SUFFIXES = {"onnx": ".onnx", "torchscript": ".ts", "exported-program": ".pt2"}
TOLERANCE = 1e-4  # of the largest output; float32 in another order of operations stays an order of magnitude below
METADATA = "metadata.json"  # the name of the description: an ONNX metadata property, an extra file in the others
Run = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Report:
    """What came of an export.

    Attributes:
        path: The file.
        output: The output's shape for the input size of the export.
        difference: Largest absolute difference to the model in torch, divided by the largest absolute output.
        torch_ms: Median time of the model in torch for one image, in milliseconds.
        exported_ms: The same for the exported one, measured in turn with the other.
    """

    path: Path
    _: KW_ONLY
    output: tuple[int, ...]
    difference: float
    torch_ms: float
    exported_ms: float


class Graph(nn.Module):
    """The network with its normalisation: RGB (N, 3, H, W) in 0..255 -> what the task says that its output is.

    Args:
        model: What predicts.
    """

    def __init__(self, model: Predictor) -> None:
        super().__init__()
        self.network = model.model
        self.task = model.task

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> the output."""
        return self.task.exported(self.network, images)


class AnySizePool(nn.Module):
    """``nn.AdaptiveAvgPool2d`` as two matrix products, which exporters can write down for any input size.

    Cell ``i`` of ``n`` is the mean over ``floor(i H / n) <= y < ceil((i + 1) H / n)``, as in torch.

    Args:
        size: Height and width of the output.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C) and the size."""
        rows, columns = (_means(n, x.shape[2 + axis], x) for axis, n in enumerate(self.size))
        return rows @ x @ columns.T


def export(
    model: Predictor,
    kind: str,
    path: Path,
    size: tuple[int, int] | None = None,
    dynamic: bool = False,
    repeats: int = 10,
) -> Report:
    """Write a model into a file, read it back, and run both on the same images.

    Args:
        model: What :func:`ean_core.inference.load` returns, on the CPU.
        kind: ``"onnx"``, ``"torchscript"`` or ``"exported-program"``.
        path: The file to write.
        size: Height and width of the input; ``None``: the config's ``image_size`` or ``crop_size``, or 768 x 1024.
        dynamic: Let the exported model take any batch size, height and width. Otherwise it takes one image of ``size``.
        repeats: How many times each of the two is timed.

    Raises:
        UserError: An unknown kind, a missing package, a model that cannot be exported so, or outputs that differ by
            more than 1e-4 of the largest one; the file is then not written.
    """
    if kind not in SUFFIXES:
        raise UserError(f"format must be {', '.join(SUFFIXES)}, got {kind!r}")
    if kind == "onnx":
        missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
        if missing:
            raise UserError(f"--format onnx needs {' and '.join(missing)}: pip install 'ean[deploy]'")
    if path.is_dir():
        raise UserError(f"'{path}' is a folder: name a file in it")
    height, width = size or _default_size(model)
    graph: nn.Module = Graph(model).eval()
    if dynamic:
        graph = _any_size(graph)
    shapes = [(1, height, width)] + ([(2, height + 32, width + 64)] if dynamic else [])
    images = [torch.from_numpy(_image(*shape, seed=i)) for i, shape in enumerate(shapes)]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of exporters about their own future
        expected = [graph(image) for image in images]
        if not all(value.isfinite().all() for value in expected):
            raise model.not_finite()
        description = describe(model, (height, width), dynamic, tuple(expected[0].shape))
        try:
            data, run = _write(graph, kind, images[0], dynamic, json.dumps(description))
        except Exception as error:  # exporters raise anything
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"the model cannot be exported as {kind} ({type(error).__name__}: {reason})") from error
        differences = [_difference(run(image), value) for image, value in zip(images, expected, strict=True)]
        worst = max(differences)
        if not worst <= TOLERANCE:
            raise UserError(
                f"the {kind} model differs by {worst:.1e} of its largest output, more than {TOLERANCE:.0e}: not written"
            )
        calls = {"torch": partial(graph, images[0]), "exported": partial(run, images[0])}
        times = interleave(calls, repeats, warmup=1)
    torch_ms, exported_ms = (1e3 * median(times[name]) for name in calls)
    write_atomic(path, data)
    shape = tuple(expected[0].shape)
    return Report(path, output=shape, difference=worst, torch_ms=torch_ms, exported_ms=exported_ms)


def describe(model: Predictor, size: tuple[int, int], dynamic: bool, output: Sequence[int]) -> dict[str, Any]:
    """What one must know to use the file, as it is stored in it.

    ``task``, ``scheme``; ``input``: its name, colour order, range, size, and whether other sizes are taken; ``output``:
    its name, meaning and shape; ``mean`` and ``std``, which are applied inside; ``classes``, where there are any.
    """
    task = str(model.cfg.task)
    network: Any = model.model
    preprocessor = network.data_preprocessor
    mean, std = (getattr(preprocessor, key).flatten().tolist() for key in ("mean", "std"))
    scheme = getattr(getattr(network, "backbone", None), "scheme", None)
    classes = network.dataset_meta.get("classes")
    return {
        "task": task,
        "scheme": None if scheme is None else str(scheme),
        "input": {"name": "image", "type": "float32", "layout": "NCHW", "colours": "RGB", "range": [0, 255],
                  "size": list(size), "dynamic": dynamic},
        "output": {"name": "output", "meaning": model.task.output, "shape": list(output)},
        "normalisation": {"mean": mean, "std": std, "inside": True},
        "classes": list(classes) if classes else None,
    }  # fmt: skip


def read_description(path: Path) -> dict[str, Any]:
    """The description in an exported file.

    Raises:
        UserError: It is none of our formats, or holds no description.
    """
    extra = {METADATA: ""}
    if path.suffix == SUFFIXES["onnx"]:
        import onnx

        extra |= {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    elif path.suffix == SUFFIXES["torchscript"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch has deprecated the format
            torch.jit.load(path, map_location="cpu", _extra_files=extra)
    elif path.suffix == SUFFIXES["exported-program"]:
        torch.export.load(path, extra_files=extra)
    if not extra[METADATA]:
        raise UserError(f"'{path}' holds no description of an exported model")
    return json.loads(extra[METADATA])


def _write(graph: nn.Module, kind: str, image: torch.Tensor, dynamic: bool, text: str) -> tuple[bytes, Run]:
    """The file's content, and the model that was read back from it."""
    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free, 2: free, 3: free},) if dynamic else None
    # A batch of one would be taken for a constant, so a dynamic export looks at two images.
    example = torch.cat([image, image]) if dynamic else image
    buffer = io.BytesIO()
    if kind == "torchscript":
        torch.jit.save(torch.jit.trace(graph, example, check_trace=False), buffer, {METADATA: text})
        return buffer.getvalue(), torch.jit.load(io.BytesIO(buffer.getvalue()))
    program = torch.export.export(graph, (example,), dynamic_shapes=shapes)
    if kind == "onnx":
        return _write_onnx(program, shapes, text)
    torch.export.save(program, buffer, extra_files={METADATA: text})
    return buffer.getvalue(), torch.export.load(io.BytesIO(buffer.getvalue())).module()


def _write_onnx(program: Any, shapes: Any, text: str) -> tuple[bytes, Run]:
    import onnxruntime

    onnx_program = torch.onnx.export(
        program, input_names=["image"], output_names=["output"], dynamic_shapes=shapes, dynamo=True, verbose=False
    )
    assert onnx_program is not None
    proto = onnx_program.model_proto
    proto.metadata_props.add(key=METADATA, value=text)
    data = proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return data, lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


def _any_size(module: nn.Module) -> nn.Module:
    """A copy whose adaptive pools take any size; weights are shared."""
    memo = {id(t): t for t in [*module.parameters(), *module.buffers()]}
    module = copy.deepcopy(module, memo)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.AdaptiveAvgPool2d):
                size: Any = child.output_size
                rows, columns = (size, size) if isinstance(size, int) else size
                if rows is not None and columns is not None:
                    setattr(parent, name, AnySizePool((rows, columns)))
    return module


def _means(cells: int, length: int, like: torch.Tensor) -> torch.Tensor:
    """The matrix (cells, length) whose rows take the means of adaptive pooling."""
    index = torch.arange(cells, device=like.device)[:, None]
    place = torch.arange(length, device=like.device)[None]
    first, last = index * length // cells, ((index + 1) * length + cells - 1) // cells
    inside = ((place >= first) & (place < last)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


def _default_size(model: Predictor) -> tuple[int, int]:
    size = model.cfg.get("image_size") or model.cfg.get("crop_size") or (768, 1024)
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _image(count: int, height: int, width: int, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, height, width)).astype(np.float32)


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
