"""Overrides whose values have a meaning in Hydra's grammar, in OmegaConf's, or in a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig

from pipeline import config
from pipeline.config import compose_settings
from pipeline.errors import SettingsError
from pipeline.overrides import as_entered, checked_overrides, for_shell, quoted, value_of, with_own_options
from pipeline.resources import options
from pipeline.settings import FolderSettings, Settings
from tests.helpers.cli import Cli, command_line

# Names of classes, layers and folders, in which each of these characters was reported.
NASTY = [
    "jack-o'-lantern", 'the "best"', "crane, bird", "cat (tabby)", "C#", "a=b", "50%", "x[1]", "n${y}", "back\\slash",
    "{{7*7}}${7*7}", "\\", "it\\'s", "\\${x}", "00014", "20_05", "1e3", "0x1F", "-1", "3.50", "inf", "nan", "a:b",
    "true", "null", " two  words ", "'quoted'", '"quoted"', "choice(a,b)", "[a,b]", "{a: b}", "$HOME", "`ls`",
    "a;b|c&d", "~x", "!x", "ä€漢", "line\nbreak", "tab\tbed", "*", "?", "@home", "+plus", "a\\,b",
]  # fmt: skip
# What of these is read as it was typed, without quotes.
BARE = [
    "jack-o'-lantern", "cat (tabby)", "C#", "a=b", "50%", "x[1]", "00014", "20_05", "1e3", "0x1F", "-1", "3.50", "inf",
    "nan", "true", "back\\slash", "a;b|c&d", "$HOME", "~x", "ä€漢", "*", "?", "a:b", "@home", "+plus", "2", "1_000",
    "off (1)", "d'Or", "rock#n#roll",
]  # fmt: skip


def class_name(*overrides: str) -> str | None:
    return compose_settings(["data=folder", "data.root=photographs", *overrides]).class_name


@pytest.mark.parametrize("name", NASTY)
def test_a_quoted_value_survives_the_shell_and_hydra(name: str) -> None:
    (typed,) = shlex.split(for_shell("class_name", name))
    (override,) = checked_overrides([typed])
    assert value_of(override) == ("class_name", name)


@pytest.mark.parametrize("name", ["it's \\' (1)", "a=b, c", "n\\${y}", "{{7*7}}${7*7}", "20_05", "back\\"])
def test_a_quoted_value_arrives_in_the_settings(name: str) -> None:
    typed = shlex.split(f"{for_shell('class_name', name)} {for_shell('data.root', f'/photos/{name}')}")
    settings = compose_settings(["data=folder", *typed])
    assert settings.class_name == name
    assert isinstance(settings.data, FolderSettings)
    assert settings.data.root == f"/photos/{name}"


@given(
    st.text(st.sampled_from("ab '\"\\${}()[],=#%:~*\t\n") | st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
)
def test_every_text_can_be_quoted(text: str) -> None:
    (override,) = checked_overrides([f"class_name={quoted(text)}"])
    assert value_of(override) == ("class_name", text)


@pytest.mark.parametrize("name", BARE)
def test_a_name_is_taken_as_it_was_typed(name: str) -> None:
    for setting in ("class_name", "model.name", "data.root", "paths.outputs"):
        (override,) = checked_overrides([f"{setting}={name}"])
        assert value_of(override) == (setting, name)


def test_quotes_are_shown_only_where_they_are_needed() -> None:
    assert for_shell("paths.outputs", "/home/me/outputs") == "paths.outputs=/home/me/outputs"
    assert for_shell("paths.outputs", "/data (1)/20_05") == "'paths.outputs=/data (1)/20_05'"
    assert for_shell("data.root", "a,b") == """'data.root='"'"'a,b'"'"''"""
    assert for_shell("class_name", "null") == """'class_name='"'"'null'"'"''"""


@pytest.mark.parametrize("name", [*BARE, "conv1"])
def test_a_name_is_shown_as_it_was_typed(name: str) -> None:
    for typed in (f"class_name={name}", f"data.root={name}"):
        assert [as_entered(each) for each in checked_overrides([typed])] == [typed]


def test_quotes_that_a_name_needs_are_shown() -> None:
    for typed in ("class_name='a,b'", "class_name='null'", r"class_name='n\${y}'", "class_name='${model.name}'"):
        assert as_entered(typed) == typed


def test_a_layer_may_be_a_number() -> None:
    assert compose_settings(["layer=2"]).layer == "2"
    assert checked_overrides(["layer=0,2,4"], is_sweep=True) == ["layer='0','2','4'"]
    assert checked_overrides(["layer=conv1,conv2"], is_sweep=True) == ["layer=conv1,conv2"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("20_05,jack-o'-lantern, cat (tabby)", "'20_05','jack-o\\'-lantern',' cat (tabby)'"),
        ("'crane, bird',20_05,\"1,2\",C#", "'crane, bird','20_05',\"1,2\",'C#'"),
        ("choice(a,b)", "choice(a,b)"),
        ("glob(conv*)", "glob(conv*)"),
        ("${rankers:}", "${rankers:}"),
    ],
)
def test_each_of_several_names_is_taken_as_it_was_typed(typed: str, expected: str) -> None:
    assert checked_overrides([f"class_name={typed}"], is_sweep=True) == [f"class_name={expected}"]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    with command_line(tmp_path / "out (1)", monkeypatch, capsys) as call:
        yield call


@pytest.mark.parametrize("flags", [[], ["--multirun"]], ids=["run", "sweep"])
def test_the_command_that_repeats_a_run_has_the_same_settings(
    command: Cli, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    found: list[tuple[str, Settings]] = []

    def job(composed: DictConfig) -> None:
        found.append((config.rerun_command(), config.settings_from_config(composed)))

    monkeypatch.setattr("pipeline.job.run_job", job)
    names = ["it's \\' (1)", "a=b, c", "n\\${y}", "{{7*7}}${7*7}", "20_05", "back\\"]
    values = [quoted(name) for name in names]
    for value in [",".join(values)] if flags else values:
        command(
            *flags,
            "data=folder",
            "data.root=/photos/d'Or (1)",
            f"class_name={value}",
            "layer=20_05",
            "score.permutations=7",
        )
    assert [settings.class_name for _, settings in found] == names
    for text, settings in found:
        assert isinstance(settings.data, FolderSettings)
        assert (settings.data.root, settings.layer) == ("/photos/d'Or (1)", "20_05")
        typed = shlex.split(text)
        assert typed[:2] == ["pcace", "run"]
        assert compose_settings(typed[2:]) == settings


@pytest.mark.parametrize("place", ["working folder", "PCACE_OUTPUTS", "paths.outputs", "hydra.run.dir"])
def test_a_folder_that_hydra_cannot_handle_is_refused_in_one_line(
    tmp_path: Path, command: Cli, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder, arguments = tmp_path / "${x}", []
    if place == "working folder":
        folder.mkdir()
        monkeypatch.chdir(folder)
    elif place == "PCACE_OUTPUTS":
        monkeypatch.setenv("PCACE_OUTPUTS", str(folder))
    else:
        arguments = [f"{place}={quoted(str(folder))}"]
    name = place if arguments or place == "PCACE_OUTPUTS" else f"the {place}"
    code, out, err = command(*arguments)
    assert (code, out) == (1, [])
    assert err == [
        f"error: {name} must not contain '${{'; got {folder}, in which Hydra would read a reference to a setting. "
        "Choose another folder."
    ]


def test_numbers_in_lists_of_names_are_taken_as_they_were_typed() -> None:
    overrides = ["visualize.image_ids=[5/0005,20_05,1e3,true]", "model.class_names=[00, 1_0, cat]"]
    settings = compose_settings(overrides)
    assert settings.visualize.image_ids == ("5/0005", "20_05", "1e3", "true")
    assert settings.model.class_names == ("00", "1_0", "cat")


def test_settings_that_are_no_text_are_read_as_before() -> None:
    settings = compose_settings(["n_images=1_00", "class_name=null", "target_class=3", "tracking.enabled=false"])
    assert (settings.n_images, settings.class_name, settings.target_class) == (100, None, 3)


def test_references_to_settings_and_to_the_environment_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOS", "/photos (1)")
    settings = compose_settings(["data=folder", "data.root=${oc.env:PHOTOS}/x", "tracking.experiment=${model.name}"])
    assert isinstance(settings.data, FolderSettings)
    assert (settings.data.root, settings.tracking.experiment) == ("/photos (1)/x", "digits_cnn")


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("class_name=n${y}", "n${y}"),
        ("class_name={{7*7}}${7*7}", "{{7*7}}${7*7}"),
        ("class_name='it's'", "'it's'"),
        ("class_name=crane, bird", "crane, bird"),
        ("class_name=choice(a,b)", "choice(a,b)"),
    ],
)
def test_a_message_says_how_to_type_a_name_that_could_mean_something_else(override: str, name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        class_name(override)
    assert str(caught.value).count("\n") == 0
    argument = str(caught.value).rpartition(" Type ")[2].rpartition(" for this text")[0]
    (typed,) = shlex.split(argument)
    assert class_name(typed) == name


def test_messages_for_overrides_are_whole() -> None:
    with pytest.raises(SettingsError) as caught:
        checked_overrides(["class_name=crane, bird", "nonsense", "n_images=3,4"])
    comma, nonsense, several = str(caught.value).splitlines()
    assert comma == (
        "class_name must be one value; got crane, bird. For several, run a sweep: --multirun 'class_name=crane, bird'. "
        """Type 'class_name='"'"'crane, bird'"'"'' for this text as one value."""
    )
    assert nonsense.startswith("every argument must have the form setting=value; got nonsense (")
    assert nonsense.endswith("). `pcace run --help` shows the settings.")
    assert several == "n_images must be one value; got 3,4. For several, run a sweep: --multirun n_images=3,4."
    with pytest.raises(SettingsError) as caught:
        checked_overrides(["layer=conv1,conv2"])
    assert str(caught.value) == (
        "layer must be one value; got conv1,conv2. For several, run a sweep: --multirun layer=conv1,conv2. "
        "Type 'layer=[conv1,conv2]' for one run of all of them."
    )
    with pytest.raises(SettingsError) as caught:
        class_name("class_name=n${y}")
    assert str(caught.value) == (
        "class_name must refer to settings that exist; got n${y} (Interpolation key 'y' not found). "
        """Type 'class_name='"'"'n\\${y}'"'"'' for this text."""
    )


def test_a_pattern_selects_options_of_a_group() -> None:
    assert checked_overrides(["score=glob(p*)"], is_sweep=True) == ["score=glob(p*)"]
    for pattern in ("glob(zz*)", "glob([zz*,yy*])"):
        with pytest.raises(SettingsError) as caught:
            checked_overrides([f"score={pattern}"], is_sweep=True)
        assert str(caught.value).startswith("score must be one of ablation, ace, ")
        assert str(caught.value).endswith(f"; got {pattern}, which none of them matches.")
    with pytest.raises(SettingsError, match=r"^model must be one of .*; got interval\(0,1\)\.$"):
        checked_overrides(["model=interval(0,1)"], is_sweep=True)


def test_folders_of_hydra_may_have_any_name(tmp_path: Path) -> None:
    assert checked_overrides([f"hydra.run.dir={tmp_path}/photos (1)"]) == [f"hydra.run.dir='{tmp_path}/photos (1)'"]


def test_files_in_the_folder_conf_of_the_working_folder_are_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "it's mine, a=b"  # characters that have a meaning in an override
    (folder / "conf" / "experiment").mkdir(parents=True)
    text = "# @package _global_\nn_images: 37\n"
    (folder / "conf" / "experiment" / "mine.yaml").write_text(text)
    (folder / "conf" / "experiment" / "pca_sizes.yaml").write_text(text)
    before = options("experiment")
    assert "mine" not in before
    assert with_own_options(["layer=conv2"]) == ["layer=conv2"]
    monkeypatch.chdir(folder)
    assert options("experiment") == sorted([*before, "mine"])
    assert compose_settings(["experiment=mine", "n_components=2"]).n_images == 37
    # An option of the package is not replaced.
    assert compose_settings(["experiment=pca_sizes"]).n_images == 150
    given = ["hydra.searchpath=[file:///elsewhere]"]
    assert with_own_options(given) == given
    with pytest.raises(SettingsError, match=r"^experiment must be one of .*, mine, .*; got 'yours'\.$"):
        compose_settings(["experiment=yours"])
