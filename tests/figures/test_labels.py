"""Names from users in figures: they fit where they are drawn, and are never taken for mathematics."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from pipeline.artifacts import Figures
from pipeline.figures import fonts, style
from pipeline.figures.comparison import draw_agreement, draw_distributions, draw_slopes
from pipeline.figures.labels import ELLIPSIS, Cut, fitted, printable, set_footer, set_title, text_width, wrapped
from pipeline.figures.style import new_figure, paper_style
from pipeline.figures.sweep import Line, draw_sweep, draw_with_first
from pipeline.runner import run
from pipeline.sources.sklearn_digits import scans
from tests.figures.drawn import drawn_texts, faults
from tests.helpers.rankings import ranking
from tests.helpers.settings import Compose

LATIN = st.text(st.characters(min_codepoint=0, max_codepoint=0x17F), max_size=60)
LONG = "vit_base_patch16_clip_quickgelu_378.dfn5b_finetuned_in12k_in1k"


@given(LATIN, st.floats(0.3, 3), st.floats(5, 12), st.sampled_from(["start", "middle", "end"]))
@example("a\nb\0c", 3.0, 8.0, "end")
def test_a_fitted_text_is_one_line_within_the_width(text: str, width: float, size: float, cut: Cut) -> None:
    found = fitted(text, width, size, cut)
    assert found == printable(found)
    if text_width(printable(text), size) <= 0.95 * width:
        assert found == printable(text)
    else:
        assert text_width(found, size) <= 0.95 * width
        assert found.count(ELLIPSIS) >= 1


def test_the_part_that_tells_names_apart_is_kept() -> None:
    name = "photographs/from/the/archive/of/2024/cat_0001.jpg"
    start, end = fitted(name, 1.15, 7, "end").split(ELLIPSIS)
    assert (len(start) > 10, end) == (True, "")
    assert name.startswith(start)
    start, end = fitted(name, 1.15, 7, "start").split(ELLIPSIS)
    assert (start, name.endswith(end), end.endswith("cat_0001.jpg")) == ("", True, True)
    start, end = fitted(name, 1.15, 7, "middle").split(ELLIPSIS)
    assert abs(len(start) - len(end)) <= 1


@given(LATIN, st.floats(0.5, 3), st.integers(1, 4))
def test_a_wrapped_text_keeps_its_words_in_order(text: str, width: float, max_lines: int) -> None:
    lines = wrapped(text, width, 9, max_lines).split("\n")
    assert len(lines) <= max_lines
    assert all(text_width(line, 9) <= width for line in lines)
    if not any(ELLIPSIS in line for line in lines):
        assert " ".join(lines).split() == printable(text).split()


@pytest.fixture
def only_dejavu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which no font is installed besides those of matplotlib."""
    monkeypatch.setattr(fonts, "_installed", lambda: iter(()))
    clear_caches()
    yield
    monkeypatch.undo()
    clear_caches()


def clear_caches() -> None:
    fonts.families.cache_clear()
    fonts.is_drawable.cache_clear()


@pytest.mark.usefixtures("only_dejavu")
@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("猫", "Mao"),
        ("犬/こねこ_$5.jpg", "Quan/koneko_$5.jpg"),
        ("고양이", "GoYangI"),
        ("बिल्ली", "billi"),
        ("🦒", ":giraffe:"),
        ("кошка Ёлка", "кошка Ёлка"),
        ("γάτα φ₁ naïve", "γάτα φ₁ naïve"),
        ("قطة חתול", "قطة חתול"),
        ("cafe\u0301", "café"),
        ("か\u3099", "ga"),
        ("a\nb\0\udcff", "a b\ufffd\ufffd"),
    ],
)
def test_text_in_any_script_is_drawn_or_transliterated(text: str, drawn: str) -> None:
    assert printable(text) == drawn
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns about each missing glyph
        with paper_style():
            figure = new_figure(4.0, 1.0)
            set_title(figure, text)
            assert faults(figure) == []


@pytest.mark.usefixtures("only_dejavu")
def test_an_installed_font_draws_the_scripts_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = font_with("猫", tmp_path / "cat.ttf")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist])
    font_manager.fontManager.addfont(path)
    monkeypatch.setattr(fonts, "_installed", lambda: iter([("A Cat", str(path))]))
    clear_caches()
    assert fonts.families() == ("DejaVu Sans", "A Cat")
    assert printable("猫 犬") == "猫 Quan"
    with paper_style():
        figure = new_figure(2.0, 1.0)
        figure.text(0.1, 0.5, "猫猫猫", fontsize=72)
        (found,) = drawn_texts(figure)
    assert text_width("猫", 72) == pytest.approx(1, rel=0.1)  # the glyph of this font is a square of 1 em
    assert found.box.width / 100 == pytest.approx(3, rel=0.1)


def test_a_font_of_boxes_is_not_used() -> None:
    clear_caches()
    assert any(font.name.startswith("Last Resort") for font in font_manager.fontManager.ttflist)
    assert not any(name.startswith("Last Resort") for name in fonts.families())
    for family in fonts.families():
        assert font_manager.findfont(font_manager.FontProperties(family=family), fallback_to_default=False)


def font_with(character: str, path: Path) -> Path:
    """Write a font that contains one character only, a black square."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(character): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "A Cat", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


@pytest.mark.parametrize("width", [2.0, 4.0, 8.0])
def test_titles_stay_inside_their_figure_which_grows(width: float) -> None:
    with paper_style():
        figure = new_figure(width, 2.0)
        figure.add_subplot()
        set_title(figure, "Score-weighted deviation of the 10 best channels", f"{LONG}, blocks.11.mlp.fc2, class tabby")
        set_footer(figure, "activation (units of the network, one scale per channel)")
        assert faults(figure) == []
        title, footer = drawn_texts(figure)[-2:]
    assert title.text.count("\n") + footer.text.count("\n") >= 1
    height = (title.box.height + footer.box.height) / 100
    with paper_style():
        one_line = new_figure(8.0, 2.0)
        set_title(one_line, "heading", "question")
        set_footer(one_line, "activation")
        before = sum(each.box.height for each in drawn_texts(one_line)[-2:]) / 100
    assert figure.get_figheight() - 2.0 >= height - before  # the panels do not become smaller


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures of a run, in the order in which they are drawn."""
    found: list[Figure] = []
    rendered = style.render_png

    def render_png(figure: Figure, dpi: int) -> bytes:
        found.append(figure)
        return rendered(figure, dpi)

    monkeypatch.setattr(style, "render_png", render_png)
    return found


def photographs(folder: Path, names: Sequence[str]) -> Path:
    folder.mkdir()
    for scan, name in zip(scans()[0], names, strict=False):
        Image.fromarray(scan).save(folder / name)
    return folder


NAMES = ["$", r"\alpha", r"\$5$", "$x_1$", r"$\frac{1}{$"]  # the last one is not valid mathematics


def test_names_with_dollar_signs_are_drawn_as_they_are(compose: Compose, tmp_path: Path, figures: list[Figure]) -> None:
    names = [f"{index}{NAMES[index % 5]}.png" for index in range(20)]
    outputs = [f"c$a_{index}$" for index in range(10)]
    settings = compose(
        "data=folder", f"data.root={photographs(tmp_path / 'photographs', names)}", "class_name='$\\alpha$ cats'",
        "target_class=3", f"model.class_names=[{','.join(repr(name) for name in outputs)}]", "model.name='net$_1$'",
        "model.checkpoint=data/digits_cnn.safetensors", "visualize.maximize=always", "visualize.maximize_steps=2",
    )  # fmt: skip
    settings = replace(settings, visualize=replace(settings.visualize, image_ids=tuple(names[:5])))
    result = run(settings, tmp_path / "run")
    assert result.artifacts[Figures].notes == ()
    assert len(figures) == 11
    for figure in figures:
        with paper_style():
            texts = drawn_texts(figure)
        assert not any(each.is_mathematics for each in texts)
        (title,) = [each for each in texts if each.text == figure.get_suptitle()]
        assert r"net$_1$, conv1, class $\alpha$ cats" in title.text.replace("\n", " ")
    # As mathematics, names would be narrower: a dollar sign is not drawn, and an index is small.
    shown = {each.text: each for figure in figures for each in drawn_texts(figure)}
    for name in (*names[:5], "c$a_3$"):
        box = shown[name].box
        assert max(box.width, box.height) / 100 == pytest.approx(text_width(name, 7), rel=0.12), name


@pytest.mark.parametrize("n_images", [1, 4])
def test_long_names_stay_inside_all_figures(
    compose: Compose, tmp_path: Path, figures: list[Figure], n_images: int
) -> None:
    folder = photographs(tmp_path / "photographs", [f"{'W' * 100}_{index:04d}.png" for index in range(20)])
    outputs = [f"the name of output {index} of this network, which is long" for index in range(10)]
    settings = compose(
        "data=folder", f"data.root={folder}", f"class_name='{'a class with a long name ' * 4}'", "target_class=3",
        f"model.class_names=[{','.join(repr(name) for name in outputs)}]", f"model.name={LONG}",
        "model.checkpoint=data/digits_cnn.safetensors", f"visualize.n_images={n_images}", "visualize.maximize=always",
        "visualize.maximize_steps=2", "n_components=3", f"visualize.n_maximized={n_images}",
        *(["visualize.images=driving"] if n_images > 1 else []),
    )  # fmt: skip
    run(settings, tmp_path / "run")
    assert len(figures) == 11
    for figure in figures:
        with paper_style():
            assert faults(figure) == [], figure.get_suptitle()


@pytest.mark.parametrize("n_runs", [2, 9])
def test_long_names_stay_inside_the_figures_of_sweeps_and_comparisons(n_runs: int) -> None:
    labels = [f"_layer={LONG}.{index}, class_name=$x_1$, n_components={index}" for index in range(n_runs)]
    rng = np.random.default_rng(0)
    ranks = [rng.permutation(64) + 1.0 for _ in labels]
    matrix = np.corrcoef(np.stack(ranks))
    scores = [rng.beta(2, 2, 64) for _ in labels]
    tables = {label: ranking(list(values)).assign(by="maximal") for label, values in zip(labels, scores, strict=True)}
    jobs = Line(LONG, 64, [float(index) for index in range(n_runs)], list(matrix[0]), [0.9] * n_runs)
    layers = [Line(label, 64, [1, 2, 3], [1, 0.5, 0.2], [0.9] * 3) for label in labels]
    with paper_style():
        drawn = [
            draw_agreement([("Spearman", matrix), ("Kendall", matrix)], labels, LONG),
            draw_slopes(ranks, labels, 10, LONG),
            draw_distributions(scores, labels, ["maximal"] * len(labels)),
            draw_sweep(tables),
            draw_with_first([jobs], "", dict(enumerate(labels))),
            draw_with_first(layers, "n_components", {}),
        ]
        for figure in drawn:
            assert faults(figure) == [], figure.get_suptitle()
            assert not any(each.is_mathematics for each in drawn_texts(figure))
        # Names that begin with an underscore are in the legends, too.
        for figure in (drawn[2], drawn[3], drawn[5]):
            assert sum(each.text.startswith(" _layer=") for each in drawn_texts(figure)) == n_runs
