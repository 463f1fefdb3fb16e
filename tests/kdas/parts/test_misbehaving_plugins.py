"""Users' own parts that fail: one line with the part, its file and the cause, before any compute is spent."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kdas.__main__ import app
from kdas.data import DATASETS
from kdas.errors import UserError
from kdas.losses import LOSSES
from kdas.models import MODELS
from kdas.recipe.config import load_trial_config
from kdas.samplers import SAMPLERS
from kdas.training.own_parts import check_own_parts
from kdas.training.trial import load_inputs

SAMPLER = """
import sys
import torch
from kdas.samplers import SAMPLERS, EpochPlan
from kdas.samplers.subsets import Unselective

@SAMPLERS.register("mine", source="a test", needs=["student_logits"])
class Mine(Unselective):
    def __init__(self, context, *, rate: float = 1.0):
        {init}
        super().__init__(context)

    def plan(self, epoch):
        {plan}
        return EpochPlan(torch.arange(self.context.num_samples), self.context.batch_size, 1.0, selects=True)

    def select(self, epoch, indices, *, student_logits):
        {select}
        return torch.arange(len(indices))
"""
LOSS = """
from torch import nn
from kdas.losses import LOSSES

@LOSSES.register("mine", source="a test"{needs})
class Mine(nn.Module):
    def __init__(self{context}):
        super().__init__()
        {init}

    def forward(self, student_logits, teacher_logits, targets{names}):
        {forward}
        return (student_logits - teacher_logits).pow(2).sum(1)
"""
DATASET = """
from kdas.data import DATASETS, Dataset

def decode():
    {decode}

@DATASETS.register("mine", source="a test")
def mine() -> Dataset:
    {build}
    return Dataset("mine", "made up", "abc", 10, decode)
"""
MODEL = """
import sys
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        {init}
        self.last = nn.Linear(3, num_classes)

    def forward(self, images):
        {forward}
        return self.last(images.mean(dim=(2, 3)))
"""
Refusal = Callable[..., str]


def begin(path: Path) -> None:
    """What comes before anything is computed."""
    config = load_trial_config(path)
    check_own_parts(config)
    load_inputs(config, lambda *_: pytest.fail("the teacher was trained"))


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusal]:
    """The one line that refuses a trial with this plug-in, in the form `trial.yaml: ...`."""
    known = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for registry in (DATASETS, LOSSES, MODELS, SAMPLERS):
        monkeypatch.setattr(registry, "_parts", dict(registry._parts))
    name = f"mine_{re.sub('[^a-z0-9]', '_', tmp_path.name.lower())}"

    def refuse(code: str, **content: Any) -> str:
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        usual = {"dataset": "digits", "teacher": {"model": "resnet8", "epochs": 1}, "student": "resnet8"}
        trial = {**usual, "plugins": [f"{name}.py"], "device": "cpu", **content}
        (tmp_path / "trial.yaml").write_text(yaml.safe_dump(trial).replace("MODULE", name), encoding="utf-8")
        with pytest.raises(UserError, match="mine") as caught:
            begin(tmp_path / "trial.yaml")
        assert "\n" not in str(caught.value)
        return str(caught.value).replace(str(tmp_path), "").replace(name, "mine")

    yield refuse
    for module in set(sys.modules) - known:
        del sys.modules[module]


GOOD = dict.fromkeys(("init", "plan", "select", "forward", "decode", "build"), "pass")
RAISED = "raise RuntimeError('my own\\n mistake')"
SAID = r"RuntimeError: my own mistake"


@pytest.mark.parametrize(
    ("place", "line"), [("init", 10), ("plan", 14), ("select", 18)], ids=["init", "plan", "select"]
)
def test_sampler_that_raises(refusal: Refusal, place: str, line: int) -> None:
    said = refusal(SAMPLER.format(**{**GOOD, place: RAISED}), sampler="mine")
    assert said == f"sampler mine: its code failed: {SAID} (/mine.py, line {line}). Fix that file."


@pytest.mark.parametrize("place", ["init", "forward"])
@pytest.mark.parametrize("has_features", [False, True])
def test_loss_that_raises(refusal: Refusal, place: str, has_features: bool) -> None:
    needs = {"needs": ', needs=["student_features"]', "context": ", context", "names": ", *, student_features"}
    extra = needs if has_features else dict.fromkeys(needs, "")
    said = refusal(LOSS.format(**{**GOOD, **extra, place: RAISED}), loss="mine", bank="live")
    assert re.fullmatch(rf"loss mine: its code failed: {SAID} \(/mine\.py, line \d+\)\. Fix that file\.", said)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        ("student_features -= student_features.mean(0)", "changes a tensor that it is given in place"),
        ("teacher_features.div_(2)", "changes a tensor that it is given in place"),
        ("return (student_features.detach() - 1).pow(2).sum(1)", "does not depend on the student"),
        ("return (self.own(student_features.detach()) - 1).pow(2).sum(1)", "does not depend on the student"),
        ("return torch.cdist(student_features, student_features).sum(1)", None),
        (
            "return (student_features[:, None] - student_features).pow(2).sum(2).sqrt().sum(1)",
            "has a gradient that is not finite",
        ),
        (
            "return self.listed[0](student_features).pow(2).sum(1)",
            r"trains a tensor \[2, 64\] that its module does not hold",
        ),
        ("return self.own(student_features).pow(2).sum(1)", None),
        ("return student_features.pow(2).sum(1) * 0", None),
    ],
)
def test_loss_that_would_train_wrongly(refusal: Refusal, forward: str, message: str | None) -> None:
    code = "import torch" + LOSS.format(
        needs=', needs=["student_features", "teacher_features"]',
        context=", context",
        init="self.own, self.listed = nn.Linear(64, 2), [nn.Linear(64, 2)]",
        names=", *, student_features, teacher_features",
        forward=forward,
    )
    if message is None:
        with pytest.raises(pytest.fail.Exception, match=r"the teacher was trained|DID NOT RAISE"):  # not refused
            refusal(code, loss="mine")
    else:
        assert re.search(f"loss mine: {message}", refusal(code, loss="mine"))


def test_loss_with_a_lazy_layer(refusal: Refusal) -> None:
    code = LOSS.format(**GOOD | dict.fromkeys(("needs", "context", "names"), ""))
    said = refusal(code.replace("super().__init__()", "super().__init__(); self.head = nn.LazyLinear(3)"), loss="mine")
    assert re.fullmatch(r"loss mine has a lazy layer, term0\.head \(LazyLinear\)\. Give its size, as in .*\.", said)


@pytest.mark.parametrize("place", ["build", "decode"])
def test_dataset_that_raises(refusal: Refusal, place: str) -> None:
    said = refusal(DATASET.format(**{**GOOD, place: RAISED}), dataset="mine")
    assert re.fullmatch(rf"dataset mine: its code failed: {SAID} \(/mine\.py, line \d+\)\. Fix that file\.", said)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ({"init": RAISED}, rf"calling it with num_classes failed: {SAID} \(/mine\.py, line 9\)\."),
        ({"init": "sys.exit(3)"}, r"calling it with num_classes failed: SystemExit: 3 \(/mine\.py, line 9\)\."),
        ({"forward": RAISED}, rf"cannot take images of 8x8 pixels: {SAID} \(/mine\.py, line 13\)\."),
        ({"forward": "sys.exit(3)"}, r"cannot take images of 8x8 pixels: SystemExit: 3 \(/mine\.py, line 13\)\."),
        # Raised in torch's own code: the user's line is told.
        ({"forward": "self.last(images)"}, r"RuntimeError: .*mat1 and mat2 .* \(/mine\.py, line 13\)\."),
        (
            {"init": "self.body = nn.Sequential(nn.LazyLinear(3))"},
            r"has a lazy layer, body\.0 \(LazyLinear\)\. Give its",
        ),
    ],
    ids=["init", "exit in init", "forward", "exit in forward", "in torch", "lazy"],
)
@pytest.mark.parametrize("key", ["student", "teacher"])
def test_model_that_misbehaves(refusal: Refusal, key: str, code: dict[str, str], message: str) -> None:
    content = {"student": "MODULE:Net"} if key == "student" else {"teacher": {"model": "MODULE:Net", "epochs": 1}}
    said = refusal(MODEL.format(**{**GOOD, **code}), plugins=[], **content)
    assert re.search(rf"(mine:|model )Net.*{message}", said), said


def test_model_of_a_plugin_that_is_lazy_or_raises_later(refusal: Refusal) -> None:
    code = (
        "from torch import nn\nfrom kdas.models import MODELS\nfrom kdas.models.tapped import tapped\n"
        "@MODELS.register('mine', source='a test')\ndef build(num_classes):\n    {body}\n"
    )
    said = refusal(code.format(body="raise KeyError(num_classes)"), student="mine")
    assert said == "model mine: its code failed: KeyError: 10 (/mine.py, line 6). Fix that file."


@pytest.mark.parametrize("code", ["import sys; sys.exit(3)", "exit()", "raise SystemExit"])
def test_plugin_that_exits(refusal: Refusal, code: str) -> None:
    assert re.search(r"plugins: /mine\.py: its import failed: SystemExit.* \(/mine\.py, line 1\)\. Fix", refusal(code))


def test_command_says_it_and_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "exits.py").write_text("import sys; sys.exit(3)", encoding="utf-8")
    content = {"dataset": "digits", "teacher": {"model": "resnet8"}, "student": "resnet8", "plugins": ["exits.py"]}
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    done = CliRunner().invoke(app, ["train", str(tmp_path / "trial.yaml")])
    assert isinstance(done.exception, UserError) and "SystemExit: 3" in str(done.exception)


@pytest.mark.parametrize(
    ("registered", "context", "init", "names", "message"),
    [
        ("", "", "pass", ", *, teacher_maps", 'takes teacher_maps without .*needs=["teacher_maps"] where it registers'),
        ("", "", "pass", ", epoch=1", 'takes epoch without declaring it. Add needs=["epoch"]'),
        ("", "", "pass", ", *, student_strong_logits", 'Add needs=["strong_view"] where it registers (/mine.py).'),
        ("epoch", "", "pass", "", "its needs name epoch, but its code does not take epoch. Add that argument to"),
        ("", ", context", "context.teacher_maps[0]", "", 'reads teacher_maps of its .*needs=["teacher_maps"]'),
        ("", ", context", "context.student_width", "", 'reads student_width of its .*needs=["student_features"]'),
        ("", ", context", "context.class_means()", "", 'reads class_means of its .*needs=["class_means"]'),
        ("", ", context", "context.teacher_mapz", "", "(/mine.py, line 9). Did you mean teacher_maps? Fix that file."),
        ("", ", context", "context.xyz", "", "Known: class_means, epochs, labels, num_classes, num_samples, student_"),
        ("", ", context, other", "pass", "", "argument: 'other' (/mine.py). Fix that file."),
    ],
)
def test_loss_that_uses_what_it_does_not_declare(
    refusal: Refusal, registered: str, context: str, init: str, names: str, message: str
) -> None:
    needs = f', needs=["{registered}"]' if registered else ""
    code = LOSS.format(needs=needs, context=context, init=init, names=names, forward="pass")
    said = refusal(code, loss="mine", bank="live")
    assert said.startswith("loss mine: ")
    assert re.search(re.escape(message).replace(r"\.\*", ".*"), said), said
    assert "/mine.py" in said


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ("", 'takes student_logits without declaring it. Add needs=["student_logits"] where it registers (/mine.py).'),
        (', needs=["student_logits", "targets"]', "its needs name targets, but its code does not take targets. Add"),
    ],
)
def test_sampler_that_uses_what_it_does_not_declare(refusal: Refusal, needs: str, message: str) -> None:
    code = SAMPLER.format(**GOOD).replace(', needs=["student_logits"]', needs)
    assert f"sampler mine: {message}" in refusal(code, sampler="mine")


def test_sampler_whose_context_is_misspelt(refusal: Refusal) -> None:
    said = refusal(SAMPLER.format(**{**GOOD, "plan": "self.context.num_sample"}), sampler="mine")
    assert "(/mine.py, line 14). Did you mean num_samples? Fix that file." in said


@pytest.mark.parametrize(
    ("registered", "message"),
    [
        ('"mine"', 'line 4: the loss \'mine\' has no source. Write register("mine", source="where it is from").'),
        ('"kd", source="a test"', "line 4: the loss name 'kd' is taken by kdas.losses.divergence. Choose another."),
        (
            '"mine", source="a test", needs=["teacher_map"]',
            "line 4: the loss 'mine': needs: 'teacher_map' is unknown. Did you mean teacher_maps?",
        ),
    ],
)
def test_loss_that_cannot_be_registered(refusal: Refusal, registered: str, message: str) -> None:
    code = f"from kdas.losses import LOSSES\n\n\n@LOSSES.register({registered})\ndef mine():\n    pass\n"
    assert refusal(code) == f"/trial.yaml: plugins: /mine.py: {message}"


def test_loss_that_is_registered_without_a_call(refusal: Refusal) -> None:
    said = refusal("from kdas.losses import LOSSES\n\n\n@LOSSES.register\ndef mine():\n    pass\n")
    assert said.endswith('line 4: a loss has no name. Write register("my_name", source="where it is from").')


def test_every_broken_part_of_a_trial_is_told(tmp_path: Path, refusal: Refusal) -> None:
    parts = {"forward": RAISED, "init": "pass", **dict.fromkeys(("needs", "context", "names"), "")}
    code = LOSS.format(**parts) + LOSS.format(**parts).replace('"mine"', '"mine_too"')
    code += SAMPLER.format(**{**GOOD, "plan": RAISED})
    with pytest.raises(AssertionError):  # of several lines
        refusal(code, loss=[{"name": "mine", "weight": 1}, {"name": "mine_too", "weight": 1}], sampler="mine")
    config = load_trial_config(tmp_path / "trial.yaml")
    with pytest.raises(UserError) as caught:
        check_own_parts(config)
    assert [line.partition(":")[0] for line in caught.value.args] == ["sampler mine", "loss mine", "loss mine_too"]
    assert [line[:7] for line in caught.value.of("t.yaml").args] == ["t.yaml:"] * 3


def test_every_plugin_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("1 / 0", encoding="utf-8")
    done = CliRunner().invoke(app, ["list", "--plugin", "one.py", "--plugin", "two.py"])
    assert isinstance(done.exception, UserError)
    assert [line.partition(": its")[0] for line in done.exception.args] == [
        "list: --plugin one.py",
        "list: --plugin two.py",
    ]


def test_plugin_of_the_command_line_is_found_from_any_folder_with_what_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(LOSSES, "_parts", dict(LOSSES._parts))
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "beside_my_part.py").write_text("NAME = 'found_there'", encoding="utf-8")
    code = "from beside_my_part import NAME\nfrom kdas.losses import LOSSES\n\n\n"
    code += "@LOSSES.register(NAME, source='a test')\ndef mine():\n    pass\n"
    (tmp_path / "parts" / "part.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["list", "losses", "--plugin", "parts/part.py"])
    assert done.exit_code == 0 and "found_there" in done.output, done.exception
