"""Checkpoints in the layouts that people have: loaded, or refused with the cause."""

from __future__ import annotations

import argparse
import copy
import json
import pickle
import re
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdas import models, seeding
from kdas.errors import UserError
from kdas.files import torch_file
from kdas.models import MODELS, Model
from kdas.models.weights import load_weights

Weights = dict[str, Tensor]


def weights_of(name: str = "resnet8", num_classes: int = 10, seed: int = 0) -> Weights:
    with seeding.global_draws(seed, "test"):
        return dict(models.create(name, num_classes).state_dict())


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., Weights]:
    """What a model holds after it was filled from a file with this content."""

    def load(content: Any, name: str = "resnet8", **options: Any) -> Weights:
        torch.save(content, tmp_path / "peer.pth", **options)
        model = models.create(name, 10)
        load_weights(model, tmp_path / "peer.pth", name)
        return model.state_dict()

    return load


def equal(one: Weights, other: Weights) -> bool:
    return all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def under(prefix: str, weights: Weights) -> Weights:
    return {f"{prefix}{key}": tensor for key, tensor in weights.items()}


WEIGHTS, OTHERS = weights_of(), weights_of("resnet14", seed=1)
SHARDED = "_fsdp_wrapped_module._checkpoint_wrapped_module."
LAYOUTS: dict[str, Any] = {
    "bare": WEIGHTS,
    "ordered": OrderedDict(WEIGHTS),
    "model": {"model": WEIGHTS, "epoch": 240, "best_acc": np.float64(71.1)},
    "state_dict": {"state_dict": WEIGHTS, "best_prec1": 91.7},
    "net": {"net": under("module.", WEIGHTS), "acc": 91.7},
    "student": {"student": WEIGHTS, "teacher": OTHERS},
    "teacher": {"teacher": WEIGHTS, "student": OTHERS},
    "averaged": {"state_dict_ema": under("module.", WEIGHTS) | {"n_averaged": torch.tensor(3)}},
    "plain before averaged": {"state_dict_ema": weights_of(seed=2), "state_dict": WEIGHTS},
    "model before others": {"best": weights_of(seed=2), "model": WEIGHTS},
    "parallel": under("module.", WEIGHTS),
    "compiled": under("_orig_mod.", WEIGHTS),
    "compiled and parallel": {"model": under("module._orig_mod.", WEIGHTS)},
    "parallel inside": {key.replace("layer1.", "layer1.module."): tensor for key, tensor in WEIGHTS.items()},
    "sharded with checkpoints of activations": {
        "model": {
            f"_fsdp_wrapped_module.{key.replace('layer1.0.', f'layer1.0.{SHARDED}')}": each
            for key, each in WEIGHTS.items()
        }
    },
    "lightning": {"state_dict": under("model.", WEIGHTS), "hyper_parameters": {"lr": 0.1}},
    "distiller, student": {"model": under("module.student.", WEIGHTS) | under("module.teacher.", OTHERS)},
    "distiller, teacher": {"model": under("module.teacher.", WEIGHTS) | under("module.student.", OTHERS)},
    "distiller of two alike": {
        "model": under("module.teacher.", weights_of(seed=2)) | under("module.student.", WEIGHTS)
    },
    "distiller with more": {
        "model": under("module.student.", WEIGHTS) | {"module.connectors.0.weight": torch.zeros(3, 3)}
    },
    "deep": {"state": {"ema": {"shadow": under("module.", WEIGHTS)}}},
    "list": [WEIGHTS, 240],
    "counters": WEIGHTS
    | {"total_ops": torch.zeros(1), "layer1.0.total_params": torch.zeros(1), "n_averaged": torch.tensor(3)},
    "no batch counts": {key: tensor for key, tensor in WEIGHTS.items() if "num_batches" not in key},
    "numpy": {"model": {key: np.asarray(tensor) for key, tensor in WEIGHTS.items()}},
    "parameters": {key: nn.Parameter(each) if each.is_floating_point() else each for key, each in WEIGHTS.items()},
    "doubles": {key: each.double() if each.is_floating_point() else each for key, each in WEIGHTS.items()},
    "options": {"state_dict": WEIGHTS, "args": argparse.Namespace(lr=0.1, out=Path("/x"), seen=deque([1]))},
    "counts": {"state_dict": WEIGHTS, "metrics": defaultdict(list, {"acc": [1.0]}), "random": np.random.default_rng(0)},
}


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "old format"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_found_in_every_usual_layout(loaded: Callable[..., Weights], layout: str, is_zip: bool) -> None:
    assert equal(loaded(LAYOUTS[layout], _use_new_zipfile_serialization=is_zip), WEIGHTS)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_weights_of_lower_precision_are_loaded_as_they_are(loaded: Callable[..., Weights], kind: torch.dtype) -> None:
    lower = {key: each.to(kind) if each.is_floating_point() else each for key, each in WEIGHTS.items()}
    expected = {key: each.float() if each.is_floating_point() else each for key, each in lower.items()}
    assert equal(loaded({"model": lower}), expected)


def safetensors_of(weights: Weights, kinds: dict[torch.dtype, str] | None = None) -> bytes:
    names = kinds or {torch.float32: "F32", torch.int64: "I64", torch.bfloat16: "BF16"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    content = b""
    for key, tensor in weights.items():
        own = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        where = [len(content), len(content) + len(own)]
        header[key] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": where}
        content += own
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["model.safetensors", "renamed.pth"])
def test_safetensors_are_loaded(tmp_path: Path, kind: torch.dtype, name: str) -> None:
    given = {key: each.to(kind) if each.is_floating_point() else each for key, each in WEIGHTS.items()}
    (tmp_path / name).write_bytes(safetensors_of(given))
    model = models.create("resnet8", 10)
    load_weights(model, tmp_path / name, "resnet8")
    assert equal(model.state_dict(), {key: each.to(WEIGHTS[key].dtype) for key, each in given.items()})


@pytest.mark.parametrize("damage", ["cut", "offsets", "kind", "shape", "number", "nesting", "dimensions", "strides"])
def test_damaged_safetensors_are_one_line(tmp_path: Path, damage: str) -> None:
    whole = safetensors_of(WEIGHTS)
    headers = {
        "offsets": b'{"fc.bias":{"dtype":"F32","shape":[10],"data_offsets":[0,4000000000]}}',
        "kind": b'{"fc.bias":{"dtype":"X1","shape":[10],"data_offsets":[0,40]}}',
        "shape": b'{"fc.bias":{"dtype":"F32","shape":[-10],"data_offsets":[0,40]}}',
        "dimensions": b'{"fc.bias":{"dtype":"F32","shape":[' + b"9," * 20 + b'9],"data_offsets":[0,40]}}',
        "strides": b'{"fc.bias":{"dtype":"F32","shape":[0,%d,%d],"data_offsets":[0,0]}}' % (2**62, 2**62),
        "number": b'{"fc.bias":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,40]}}',
        "nesting": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    }
    content = whole[: len(whole) // 2]
    if damage != "cut":
        content = len(headers[damage]).to_bytes(8, "little") + headers[damage] + bytes(100)
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"^[^\n]*w\.safetensors: is a damaged safetensors file[^\n]*$"):
        load_weights(models.create("resnet8", 10), tmp_path / "w.safetensors", "resnet8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (weights_of("resnet20"), r"expected a checkpoint of resnet8, got one of resnet20\. Name resnet20 as the model"),
        (
            {"model": under("module.student.", weights_of("vgg8", 100))},
            r"expected a checkpoint of resnet8, got one of vgg8\. Name vgg8",
        ),
        (weights_of(num_classes=100), r"expected 10 classes, got 100: fc\.weight has shape \[100, 64\]\. Give a"),
        ({"fc.weight": torch.zeros(10, 64)}, r"does not fit resnet8: conv1\.weight is missing\. Name the model"),
        (
            {"one": weights_of(seed=1), "two": weights_of(seed=2)},
            r"contains several networks that fit resnet8: one, two\. Save the one",
        ),
        (WEIGHTS | {"fc.bias": torch.full((10,), torch.nan)}, r"fc\.bias holds NaN\. Use a checkpoint from before"),
        (WEIGHTS | {"bn1.running_var": torch.full((16,), torch.inf)}, r"bn1\.running_var holds infinite values\."),
        ({"model": WEIGHTS | {"fc.weight": WEIGHTS["fc.weight"].to_sparse()}}, r"fc\.weight is a sparse tensor\."),
        (WEIGHTS | {"fc.weight": torch.empty(10, 64, device="meta")}, r"fc\.weight has no values: "),
        (WEIGHTS | {"fc.weight": WEIGHTS["fc.weight"].to(torch.complex64)}, r"fc\.weight is complex"),
        (
            {key: each for key, each in WEIGHTS.items() if "running" not in key},
            r"lacks the running statistics of batch norm \(bn1\.running_mean\)\. Save model\.state_dict\(\), not",
        ),
        # Broadcast from one number: its true size is four bytes.
        (WEIGHTS | {"fc.weight": torch.zeros(1).expand(10**7, 10**6)}, r"does not fit resnet8: fc\.weight has shape"),
    ],
    ids=[
        "deeper",
        "prefixed",
        "classes",
        "part",
        "ambiguous",
        "nan",
        "infinite",
        "sparse",
        "meta",
        "complex",
        "parameters",
        "huge",
    ],
)
def test_weights_that_do_not_fit_are_told_why(loaded: Callable[..., Weights], content: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"^[^\n]*peer\.pth: {message}[^\n]*$"):
        loaded(content)


def test_pickled_module_is_refused_and_none_of_its_code_runs(loaded: Callable[..., Weights]) -> None:
    for content in (Traced(), {"model": Traced(), "epoch": 3}):
        made = Traced.num_made
        with pytest.raises(UserError, match=r"contains a pickled object, .*\.Traced, and to read it would run code\."):
            loaded(content)
        assert Traced.num_made == made


class Traced(nn.Module):
    """Counts how often it is made, from a pickle too."""

    num_made = 0

    def __new__(cls) -> Traced:
        cls.num_made += 1
        return super().__new__(cls)

    def __reduce__(self) -> Any:
        return Traced, ()


class Running:
    """A pickle that calls a function when it is read."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def test_nothing_beside_the_weights_is_made_or_called(loaded: Callable[..., Weights], tmp_path: Path) -> None:
    harmful = Running(exec, f"open({str(tmp_path / 'run')!r}, 'w')")
    made = Traced.num_made + 1
    assert equal(loaded({"model": WEIGHTS, "opt": argparse.Namespace(harmful=harmful, module=Traced())}), WEIGHTS)
    assert Traced.num_made == made and not (tmp_path / "run").exists()


def test_call_of_the_system_is_refused_by_its_name(loaded: Callable[..., Weights], tmp_path: Path) -> None:
    import os

    harmful = Running(os.system, f"touch {tmp_path / 'run'}")
    with pytest.raises(UserError, match=r"calls (posix|nt)\.system when it is read, which could run any program\."):
        loaded({"model": WEIGHTS, "opt": harmful})
    assert not (tmp_path / "run").exists()


class Called:
    """Is pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("function", [np.empty(0).__reduce__()[0], np.ndarray])
def test_array_takes_no_memory_before_its_values_are_there(loaded: Callable[..., Weights], function: Any) -> None:
    shape = (10**13,)
    claims = Called(function, *((np.ndarray, shape, "f") if function is not np.ndarray else (shape,)))
    with pytest.raises(UserError, match=r"contains no weight of resnet8\."):
        loaded({"x": claims})


class Settings(dict):  # type: ignore[type-arg]
    """As Lightning's AttributeDict, EasyDict or a configuration of yacs: items and attributes."""


class Names(list):  # type: ignore[type-arg]
    """A list of a class of its own."""


def test_mappings_and_lists_of_their_own_class_do_no_harm(loaded: Callable[..., Weights]) -> None:
    settings = Settings(learning_rate=0.1)
    settings.path = "x"  # type: ignore[attr-defined]
    assert equal(loaded({"state_dict": WEIGHTS, "hyper_parameters": settings, "names": Names(["a", "b"])}), WEIGHTS)


def test_buffer_of_any_size_is_refused(loaded: Callable[..., Weights]) -> None:
    with pytest.raises(UserError, match=r"contains a bytearray, which may be of any size\. Save its weights instead"):
        loaded({"fc.bias": Called(bytearray, 10)})


def test_more_memory_than_there_is_is_one_line(loaded: Callable[..., Weights], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(torch_file, "_loaded", fails)
    with pytest.raises(UserError, match=r"^[^\n]*asks for more memory than is free\. Save its weights instead[^\n]*$"):
        loaded({"fc.bias": 1})


def test_types_are_allowed_for_the_reading_alone(loaded: Callable[..., Weights]) -> None:
    before = set(torch.serialization.get_safe_globals())
    loaded({"model": WEIGHTS, "opt": argparse.Namespace(a=Path("x"))})
    assert set(torch.serialization.get_safe_globals()) == before and argparse.Namespace not in before


def torchscript() -> bytes:
    import io
    import warnings

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty, 0 bytes long\. Copy or download it again\."),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", r"is a Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>404</html>", r"is a web page, not a checkpoint\. Download the file itself\."),
        (b"\x89HDF\r\n\x1a\n rest", r"is an HDF5 file\."),
        (b"\x1f\x8b rest", r"is compressed with gzip and contains no tar\. Unpack it\."),
        (b"epoch,loss\n1,2", r"is no checkpoint: .* got an unknown format\."),
        (b"just some words of text", r"is no checkpoint: .* got text that begins with 'just some words of t'\."),
        (b"\x00garbage\n" * 40, r"is no checkpoint: .* got an unknown format\. Give another file, or copy this one"),
        (pickle.dumps({"fc.bias": [1.0]}), r"is a pickle that torch\.save did not write"),
        (torchscript(), r"is a TorchScript archive, which contains code\. Save its weights instead: torch\.save\("),
    ],
    ids=["empty", "lfs", "html", "hdf5", "gzip", "table", "text", "garbage", "pickle", "torchscript"],
)
def test_file_that_is_no_checkpoint_is_told_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "teacher.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^[^\n]*teacher\.pth: {message}[^\n]*$"):
        load_weights(models.create("resnet8", 10), path, "resnet8")


def test_newer_pickles_are_told_how_to_be_saved_again(loaded: Callable[..., Weights]) -> None:
    with pytest.raises(UserError, match=r"was saved with pickle protocol 4\. Save it again without pickle_protocol\."):
        loaded({"model": WEIGHTS}, pickle_protocol=4)


def test_model_of_ones_own_that_cannot_be_made_does_not_hide_the_cause(
    loaded: Callable[..., Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODELS, "_parts", copy.copy(MODELS._parts))

    @MODELS.register("broken", source="a test")
    def build(num_classes: int) -> Model:
        raise RuntimeError("not now")

    with pytest.raises(UserError, match=r"got one of resnet14\."):
        loaded(OTHERS)


def test_checkpoint_without_a_network_or_its_classifier_is_told_so(tmp_path: Path) -> None:
    weights = models.create("resnet8", 10).state_dict()
    torch.save({"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}, tmp_path / "optimizer.pth")
    torch.save({key: each for key, each in weights.items() if not key.startswith("fc.")}, tmp_path / "backbone.pth")
    for name, said in (
        ("optimizer", "contains no weight of resnet8. Give a checkpoint that holds the weights of the network."),
        ("backbone", "lacks the classifier of resnet8 (fc.weight, fc.bias). Give a checkpoint of the whole network."),
    ):
        path = tmp_path / f"{name}.pth"
        with pytest.raises(UserError, match=re.escape(f"{path}: {said}")):
            load_weights(models.create("resnet8", 10), path, "resnet8")


@pytest.mark.parametrize(
    ("content", "choice"),
    [
        ({"state_dict": WEIGHTS}, ""),
        ({"state_dict": WEIGHTS, "state_dict_ema": WEIGHTS}, ""),
        ({"state_dict_ema": weights_of(seed=2), "state_dict": WEIGHTS}, "state_dict, not state_dict_ema"),
        (
            {"model": under("module.student.", WEIGHTS) | under("module.teacher.", weights_of(seed=2))},
            "model.module.student, not model.module.teacher",
        ),
        ({**WEIGHTS, "ema": weights_of(seed=2)}, "the top level, not ema"),
    ],
    ids=["one", "equal", "averaged", "student and teacher", "top level"],
)
def test_choice_among_several_networks_that_fit_is_said(tmp_path: Path, content: Any, choice: str) -> None:
    torch.save(content, tmp_path / "peer.pth")
    model = models.create("resnet8", 10)
    assert load_weights(model, tmp_path / "peer.pth", "resnet8") == choice
    assert all(torch.equal(tensor, WEIGHTS[key]) for key, tensor in model.state_dict().items())
