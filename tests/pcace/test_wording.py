"""Messages of the pipeline name arguments of `pcace.rank`, and no command, where they reach a user of Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pcace._wording import in_python
from tests.helpers.project import ROOT

CASES = {
    "score.bootstrap must be even; got 3.": "bootstrap must be even; got 3.",
    "Choose another ranker, for example score=ablation or score=ace.": (
        'Choose another ranker, for example ranker="ablation" or ranker="ace".'
    ),
    "Add score.smoother=supersmoother score.bass=0.": 'Add smoother="supersmoother", bass=0.',
    "Use rank.by=null, or other images.": 'Use settings={"rank.by": None}, or other images.',
    "rank.by must be null with score=weight_norm; got excess.": (
        'settings["rank.by"] must be None with ranker="weight_norm"; got excess.'
    ),
    "score.smoother is spline and score.smoothness null.": "smoother is spline and smoothness None.",
    "score.n_jobs must be a whole number; got true.": "n_jobs must be a whole number; got True.",
    "Set model.channels=first or last.": 'Give channels="first" or channels="last".',
    "Lower model.batch_size.": "Lower batch_size.",
    "ablate.when=always does it, in minutes": 'settings={"ablate.when": "always"} does it, in minutes',
    "`pcace layers` lists all.": "pcace.layers(model, images) lists all.",
    "paths.outputs must be a writable folder; got /x. Set paths.outputs to another folder.": (
        "store must be a writable folder; got /x. Set store to another folder."
    ),
}


@pytest.mark.parametrize("message", CASES)
def test_settings_and_commands_are_named_as_in_python(message: str) -> None:
    assert in_python(message) == CASES[message]


@pytest.mark.parametrize(
    "text",
    [
        *CASES.values(),
        "layer must be one of the network's layers; got 'model.score.conv1'. Nearest: target.conv, rank.head.",
        "the network must process the images; got an error (forward(x, scale=2), net.py:4).",
        "7 of 64 channels score above the permutation null (q < .05).",
        "target must be None with settings['x']; got {'score.bass': 3}, /home/data/model.layers/score.n_steps.pt",
    ],
)
def test_other_text_is_not_changed(text: str) -> None:
    assert in_python(text) == text


# Modules whose messages cannot reach a user of Python: they build networks from settings, and read files and addresses.
OTHER_MODULES = {
    "networks/checkpoints.py", "networks/factories.py", "networks/identity.py", "networks/inputs.py",
    "networks/load.py", "networks/timm_models.py", "networks/torchvision_models.py", "networks/transformers_models.py",
    "settings/data.py", "settings/faults.py", "settings/model.py", "store/__main__.py",
}  # fmt: skip
TERMS = re.compile(
    r"python -m|--[a-z]|paths\.outputs|\b(?:score|layer|target|n_images|seed)=[a-z\d]|\bmodel\.(?:channels|batch_size)|"
    r"(?<!\[\")(?<!\{\")\b(?:score|rank|ablate|reduce|visualize)\.[a-z_]+"
)


def messages() -> Iterator[tuple[str, str]]:
    """Yield the texts in the pipeline that a ranking in memory uses, with the places where they are written."""
    for package in ("artifacts", "figures", "networks", "numerics", "rankers", "settings", "stages", "store"):
        for path in sorted((ROOT / "pipeline" / package).glob("*.py")):
            name = f"{package}/{path.name}"
            if name not in OTHER_MODULES:
                yield from ((f"{name}: {text}", text) for text in texts(path) if " " in text)


def texts(path: Path) -> Iterator[str]:
    """Yield the texts in a module without its docstrings; values in them are replaced by a word."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and node.body
                  and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "word" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts | docstrings:
            yield node.value


def test_no_message_of_the_pipeline_names_a_command_or_a_setting_of_the_command_line() -> None:
    found = list(messages())
    assert len(found) > 150
    assert sum(bool(TERMS.search(text)) for _, text in found) > 30
    assert [place for place, text in found if TERMS.search(in_python(text))] == []
