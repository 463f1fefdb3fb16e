"""Models outside the zoo: torchvision's by name, and the user's own by module path."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn

from kdas import models, seeding
from kdas.errors import UserError
from kdas.models.weights import load_weights
from kdas.parts.reading import validated
from kdas.recipe.config import TeacherConfig

OwnModule = Callable[[str], str]
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

NETS = """
import torch
from torch import nn

class Plain(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Linear(3, 5)
        self.last = nn.Linear(5, num_classes)

    def forward(self, images):
        return self.last(torch.relu(self.body(images.mean(dim=(2, 3)))))

class WithFeatures(Plain):
    def forward_with_features(self, images):
        features = images.amax(dim=(2, 3))
        return self(images), features

class Tokens(Plain):
    def forward(self, images):
        return self.last(self.body(images.flatten(2).transpose(1, 2))).mean(dim=1)

class Convolutional(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU())

class Unused(Plain):
    def forward(self, images):
        return images.new_zeros(len(images), 10)

def positional(classes):
    return Plain(classes)

def keyword(depth=3, *, num_classes):
    return Plain(num_classes)

def zoo(num_classes):
    from kdas.models import create
    return create("resnet8", num_classes)

def nothing(num_classes):
    return {"classes": num_classes}

def takes_none():
    return Plain(10)

def fails(num_classes):
    raise RuntimeError("no\\nluck.")

constant = 3
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnModule]:
    """Writes a module with a unique name into the current directory, which is not on Python's path."""
    known = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])

    def write(content: str) -> str:
        name = f"own_{tmp_path.name}_{len(list(tmp_path.iterdir()))}".replace("-", "_")
        (tmp_path / f"{name}.py").write_text(content, encoding="utf-8")
        return name

    yield write
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "googlenet"])
def test_torchvision_classifier_keeps_its_parameter_names_and_its_logits(name: str, tmp_path: Path) -> None:
    extra = {"init_weights": False} if name == "googlenet" else {}
    original = torchvision.models.get_model(name, weights=None, num_classes=10, **extra).eval()
    torch.save(original.state_dict(), tmp_path / "theirs.pth")
    with seeding.global_draws(2, "test"):
        model = models.create(f"torchvision/{name}", 10)
    assert list(model.state_dict()) == list(original.state_dict())
    load_weights(model, tmp_path / "theirs.pth", name)
    model.eval()
    with torch.no_grad():
        logits, features = model.forward_with_features(IMAGES)
        assert torch.equal(logits, original(IMAGES)) and torch.equal(model(IMAGES), logits)
    assert features.ndim == 2 and len(features) == 2


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_050.lamb_in1k"])
def test_timm_classifier_keeps_its_parameter_names_and_its_logits(name: str, tmp_path: Path) -> None:
    original = timm.create_model(name.partition(".")[0], pretrained=False, num_classes=10).eval()
    torch.save(original.state_dict(), tmp_path / "theirs.pth")
    model = models.create(f"timm/{name}", 10)
    assert list(model.state_dict()) == list(original.state_dict())
    load_weights(model, tmp_path / "theirs.pth", name)
    model.eval()
    with torch.no_grad():
        logits, features = model.forward_with_features(IMAGES)
        assert torch.equal(logits, original(IMAGES)) and torch.equal(model(IMAGES), logits)
    assert features.shape == (2, original.get_classifier().in_features)
    assert models.source_id(f"timm/{name}") == ""


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "torchvision/resnet18"])
def test_classifier_with_its_own_input_sees_what_its_published_weights_expect(name: str, tmp_path: Path) -> None:
    library, _, classifier = name.partition("/")
    if library == "timm":
        original, (mean, std) = timm.create_model(classifier, num_classes=10).eval(), (0.5, 0.5)
    else:
        original = torchvision.models.get_model(classifier, weights=None, num_classes=10).eval()
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    model = models.create(f"{name}@own", 10).eval()
    assert list(model.state_dict()) == list(original.state_dict()), "files of weights fit"
    model.load_state_dict(original.state_dict())
    pixels = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)).float()
    data_mean, data_std = (
        torch.tensor([120.0, 110.0, 90.0]).view(1, 3, 1, 1),
        torch.tensor([60.0, 50.0, 70.0]).view(1, 3, 1, 1),
    )
    model.take_pixels(data_mean, data_std)
    with torch.no_grad():
        logits, features = model.forward_with_features((pixels - data_mean) / data_std)
        large = nn.functional.interpolate((pixels / 255 - mean) / std, (224, 224), mode="bilinear", antialias=True)
        torch.testing.assert_close(logits, original(large), rtol=1e-4, atol=1e-4)
        assert torch.equal(copy.deepcopy(model)((pixels - data_mean) / data_std), logits)
    assert features.shape[0] == 2


def test_own_input_is_of_libraries_with_published_weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no model is called 'resnet8@own'"):
        models.create("resnet8@own", 10)
    monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda name: None)
    said = r"^model timm/resnet18@own: timm has published no weights of resnet18, .*\. Write timm/resnet18\.$"
    with pytest.raises(UserError, match=said):
        models.create("timm/resnet18@own", 10)


def test_timm_classifier_that_does_not_exist_or_is_not_installed_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match=r"^model timm has no classifier 'resnet19'\. Did you mean .*\?$"):
        models.create("timm/resnet19", 10)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"^model of timm needs timm\. Install it: pip .*timm\]'\.$"):
        models.create("timm/resnet18", 10)


def test_features_of_a_torchvision_classifier_are_what_its_last_layer_is_given() -> None:
    model = models.create("torchvision/resnet18", 10).eval()
    logits, features = model.forward_with_features(IMAGES)
    assert torch.equal(model.get_submodule("network.fc")(features), logits)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_torchvision_classifier_with_auxiliary_heads_trains_on_its_logits() -> None:
    logits = models.create("torchvision/googlenet", 10).train()(IMAGES)
    assert isinstance(logits, torch.Tensor) and logits.shape == (2, 10)


def test_torchvision_is_not_imported_by_trials_that_do_not_ask_for_it() -> None:
    code = "import sys; from kdas.recipe.config import TeacherConfig; TeacherConfig(model='vgg8'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torchvision" not in done.stdout.split() and "kdas.models.libraries" in done.stdout.split()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet19", r"Did you mean resnet18\?"),
        ("ResNet18", r"Did you mean resnet18\?"),
        ("fasterrcnn_resnet50_fpn", r"(Did you mean|Known:) "),
        ("", r"Known: alexnet, "),
    ],
)
def test_what_is_no_classifier_of_torchvision_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=rf"^torchvision has no classifier '{name}'\. {hint}"):
        models.check_name(f"torchvision/{name}")


@pytest.mark.parametrize("factory", ["Plain", "positional", "keyword"])
def test_own_model_is_found_in_the_current_directory_and_tapped(own_module: OwnModule, factory: str) -> None:
    name = f"{own_module(NETS)}:{factory}"
    assert models.check_name(name) == name
    model = models.create(name, 7)
    assert list(model.state_dict()) == ["body.weight", "body.bias", "last.weight", "last.bias"]
    logits, features = model.forward_with_features(IMAGES)
    assert logits.shape == (2, 7) and features.shape == (2, 5)
    assert torch.equal(model.get_submodule("network.last")(features), logits)


def test_own_features_come_before_tapped_ones(own_module: OwnModule) -> None:
    model = models.create(f"{own_module(NETS)}:WithFeatures", 7)
    logits, features = model.forward_with_features(IMAGES)
    assert torch.equal(features, IMAGES.amax(dim=(2, 3))) and torch.equal(model(IMAGES), logits)


def test_features_of_tokens_are_their_mean(own_module: OwnModule) -> None:
    model = models.create(f"{own_module(NETS)}:Tokens", 7)
    logits, features = model.forward_with_features(IMAGES)
    torch.testing.assert_close(model.get_submodule("network.last")(features), logits)


def test_own_function_may_return_a_model_of_the_zoo(own_module: OwnModule) -> None:
    assert type(models.create(f"{own_module(NETS)}:zoo", 7)).__name__ == "CifarResNet"


def test_tapped_model_can_be_copied_and_pickled() -> None:
    model = models.create("torchvision/squeezenet1_1", 10).eval()
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        nn.init.zeros_(copied.get_parameter("network.features.0.weight"))
        expected, features = model.forward_with_features(IMAGES)
        logits, other_features = copied.forward_with_features(IMAGES)
        assert not torch.equal(other_features, features) and not torch.equal(logits, expected)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("Plian", r"has no class or function 'Plian'\. Did you mean Plain\?"),
        ("constant", r"has no class or function 'constant'\. Known: Convolutional, "),
        ("nothing", r"nothing returns dict, not a torch\.nn\.Module\. Name a class or function that returns one\."),
        ("Convolutional", r"Convolutional has no Linear layer .*\. Define forward_with_features\."),
        (
            "takes_none",
            r"takes_none: calling it with num_classes failed: TypeError: .*\. It must accept num_classes as its only",
        ),
        (
            "fails",
            r"fails: calling it with num_classes failed: RuntimeError: no luck \(.*own_.*\.py, line \d+\)\. It must",
        ),
    ],
)
def test_own_model_that_cannot_be_made_is_refused_in_one_line(
    own_module: OwnModule, attribute: str, message: str
) -> None:
    module = own_module(NETS)
    with pytest.raises(UserError, match=rf"^x\.yaml: model: {module}.*{message}") as caught:
        validated(TeacherConfig, {"model": f"{module}:{attribute}"}, source="x.yaml")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=rf"^model {module}.*{message}"):
        models.create(f"{module}:{attribute}", 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "import no_such_dependency\n",
            r"its import failed: ModuleNotFoundError: No module named 'no_such_dependency'",
        ),
        ("def net(:\n", r"its import failed: SyntaxError: "),
        ("1 / 0\n", r"its import failed: ZeroDivisionError: division by zero \(.*, line 1\)\. Fix that file"),
    ],
    ids=["dependency", "syntax", "error"],
)
def test_own_module_that_cannot_be_imported_is_refused_in_one_line(
    own_module: OwnModule, content: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        models.check_name(f"{own_module(content)}:Net")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no_such_module:Net", "kdas.no_such_module:Net"])
def test_own_module_that_is_missing_is_refused_by_its_name(name: str) -> None:
    module = name.partition(":")[0]
    message = rf"^{name}: no module {module}\. Use a package\.module that can be imported from"
    with pytest.raises(ValueError, match=message):
        models.check_name(name)


def test_check_of_an_own_model_draws_nothing_from_the_global_generator(own_module: OwnModule) -> None:
    state = torch.random.get_rng_state()
    models.check_name(f"{own_module(NETS)}:Plain")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_own_model_whose_last_layer_idles_says_so(own_module: OwnModule) -> None:
    model = models.create(f"{own_module(NETS)}:Unused", 10)
    with pytest.raises(RuntimeError, match=r"^Unused does not use its last linear layer"):
        model.forward_with_features(IMAGES)


def test_file_as_the_module_of_a_model_is_told_how_to_write_it() -> None:
    with pytest.raises(UserError, match=r"mine\.py:Net: names a file\. Write its module, without \.py: mine:Net\.$"):
        models.create("./nets/mine.py:Net", 10)
