"""Configuration of Sphinx: ``make docs`` builds the pages in this folder into ``site/`` (docs/decisions/0102)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pipeline
from docs import pages

project = "pcace"
author = "The pcace authors"
project_copyright = "The pcace authors, MIT licence"
version = release = pipeline.__version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist", "attrs_block"]
myst_heading_anchors = 4
exclude_patterns = ["_*"]
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_search_scorer = str(Path(__file__).resolve().parent / "_static" / "scorer.js")
html_theme = "furo"
html_title = "pcace"
html_copy_source = False
html_show_sphinx = False
highlight_language = "text"
pygments_style, pygments_dark_style = "friendly", "github-dark"

autodoc_typehints = "none"  # the docstrings state types
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
default_role = "code"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# Names of types in docstrings are words, such as "array of shape (n,)", and no links.
nitpicky = False


def setup(app: Any) -> None:
    """Generate the reference, and resolve links to files outside of this folder."""
    app.connect("source-read", pages.read)
