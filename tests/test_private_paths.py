from __future__ import annotations

import html
import json
import shlex
from pathlib import Path

import pytest

from pipeline.private_paths import PrivatePaths

SETTINGS = {
    "data": {"root": "/data/jane doe/it's & photos", "files": ["/srv/a/list.txt"]},
    "model": {"checkpoint": "/data/nets/best.pt", "name": "resnet18"},
    "tracking": {"uri": "http://jane:secret@mlflow.internal:5000"},
    "paths": {"outputs": "/data"},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data.root=/data/jane doe/it's & photos", "data.root=it's & photos"),
        ("in /data/jane doe/it's & photos/cat/1.png", "in 1.png"),
        ("got /data/nets/best.pt (no file).", "got best.pt (no file)."),
        ("in /data/ and /database", "in data/ and /database"),
        ("in /mnt/data/cat/1.png, photos/data/cat/1.png and ~/data", "in 1.png, photos/data/cat/1.png and ~/data"),
        ("at http://jane:secret@mlflow.internal:5000.", "at (not shown)."),
        ("list.txt: /srv/a/list.txt; /opt/venv/lib/python3/x.py, line 3", "list.txt: list.txt; x.py, line 3"),
        ("/home/jane/photos/cats and /home/jane", "cats and ~"),
        ("'/Users/jane/net.py:make'", "'net.py:make'"),
        ("scores is being computed by process 12 on node-3.lab; waiting for it.",
         "scores is being computed by another process; waiting for it."),
        ("https://arxiv.org/abs/2112.15571, 8 / 2, and/or/xor, 2026/11/26, ./outputs/runs/1",
         "https://arxiv.org/abs/2112.15571, 8 / 2, and/or/xor, 2026/11/26, ./outputs/runs/1"),
    ],
)  # fmt: skip
def test_paths_are_replaced_by_their_last_part(text: str, expected: str) -> None:
    private = PrivatePaths([SETTINGS])
    assert private.text(text) == expected
    assert private.page(f"<td>{html.escape(text)}</td>") == f"<td>{html.escape(expected)}</td>"


def test_a_path_is_found_in_every_form_in_which_a_page_shows_it() -> None:
    root = SETTINGS["data"]["root"]  # type: ignore[index]
    command = html.escape(shlex.join(["python", f"data.root={root}"]))
    page = f"<code>{command}</code><td>{html.escape(json.dumps([root]))}</td><p>{html.escape(root)}</p>"
    found = PrivatePaths([SETTINGS]).page(page)
    assert "jane" not in found
    assert "/data" not in found
    assert found.count("photos") == 3


@pytest.mark.parametrize("escaped", [r"\n", r"\u0027", r"\u003c"])
def test_a_path_is_found_after_an_escaped_character_in_json(escaped: str) -> None:
    page = f'<script type="application/json">"in{escaped}/data/nets/best.pt{escaped}/srv/other/x.pt"</script>'
    expected = f'<script type="application/json">"in{escaped}best.pt{escaped}x.pt"</script>'
    assert PrivatePaths([SETTINGS]).page(page) == expected


def test_pictures_styles_and_scripts_are_left_as_they_are() -> None:
    page = (
        "<style>a { background: url(/data/x/y) }</style><script>const a = '/data/x/y';</script>"
        '<img src="data:image/jpeg;base64,/9j/4AAQSkZJRg/data/x==">'
        f'<script type="application/json">{{"bytes":"/data/{"A" * 80}/x/y"}}</script>'
    )
    assert PrivatePaths([SETTINGS]).page(page) == page


def test_further_folders_are_private() -> None:
    private = PrivatePaths([], [Path("/work space/project"), Path("/")])  # a home may be the root folder in a container
    assert private.text("in /work space/project/outputs and /work space/project") == "in outputs and project"
    assert private.page("<p>a / b<br/></p>") == "<p>a / b<br/></p>"
