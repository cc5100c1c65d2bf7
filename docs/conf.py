"""Sphinx's settings for `make docs`: pages are the documents where they lie, and a reference made of docstrings."""

import importlib
import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext import apidoc, napoleon
from sphinx.ext.napoleon import GoogleDocstring

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ean_core", "classification", "segmentation", "crowd_counting")
sys.path.insert(0, str(ROOT))

project, author, copyright = "EAN", "The EAN developers", "the EAN developers"
release = importlib.import_module("ean_core").__version__
for module in ("ean_core.demo.app", *(f"{package}.application" for package in PACKAGES[1:])):
    importlib.import_module(module)  # before autodoc meets pydantic's classes, whose annotations it writes anew
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# The source folder is the repository's root, so that the documents' links lead to pages as they do to files.
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "docs/*.ipynb", "docs/reference/*/*.rst", "*/*/README.md", "*/results/*.md"]
exclude_patterns = [".*", "build", "data", "work_dirs"]
highlight_language = "text"
myst_heading_anchors = 4
nb_execution_mode = "off"  # the notebook is kept as it ran; tests/run_documents.py runs it again

html_theme = "furo"  # brings its own styles; no page loads anything from elsewhere
html_title = f"EAN {release}"
html_show_sphinx = False
html_additional_pages = {"index": "index.html"}
templates_path = ["templates"]

nitpicky = True
suppress_warnings = ["ref.python"]  # a type such as `type` that is also the name of attributes
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_default_options = {"ignore-module-all": True}  # what packages offer is described where it is written
napoleon_use_ivar = True  # attributes are described once, where their class is


class Docstring(GoogleDocstring):
    """Ours: the texts of attributes and returned values begin with no type, which the hints have."""

    def _consume_inline_attribute(self) -> tuple[str, list[str]]:
        return "", self._dedent(self._consume_to_end())

    def _consume_returns_section(self, preprocess_types: bool = False) -> list[tuple[str, str, list[str]]]:
        return [("", "", self._dedent(self._consume_to_next_section()))]


napoleon.GoogleDocstring = Docstring


def write_reference(app: Sphinx) -> None:
    """A page for each package, with all its modules."""
    for package in PACKAGES:
        pages = ROOT / "docs" / "reference" / package
        apidoc.main(["-q", "--force", "--module-first", "--no-toc", "-o", str(pages), str(ROOT / package)])


def skip_borrowed(app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """A method of MMEngine's that is wrapped has its text."""
    return True if str(getattr(value, "__module__", None)).startswith("mmengine") else None


def add_navigation(app: Sphinx, docname: str, source: list[str]) -> None:
    """The first page leads to all others, in the order in which one comes upon them from the documents' index."""
    if docname != root_doc:
        return
    pages = ["docs/README.md"]
    for page in (*pages, "README.md"):
        pages += [link for link in links(page) if link not in (*pages, "README.md")]
    for page in pages:  # it grows meanwhile
        pages += [link for link in links(page) if link not in (*pages, "README.md")]
    reference = [f"docs/reference/{package}/{package}" for package in PACKAGES]
    for caption, names in {"Documents": pages, "Reference": reference}.items():
        source[0] += "\n\n```{toctree}\n:hidden:\n:caption: " + caption + "\n\n" + "\n".join(names) + "\n```\n"


def links(page: str) -> list[str]:
    """The pages that a page leads to, by their paths from the root."""
    found = re.findall(r"\]\(([\w/.]+\.(?:md|ipynb))[#)]", (ROOT / page).read_text(encoding="utf-8"))
    return list(dict.fromkeys(posixpath.normpath(posixpath.join(posixpath.dirname(page), link)) for link in found))


def resolve(app: Sphinx, env: Any, node: Any, contnode: nodes.Element) -> nodes.Node | None:
    """Lead a name to where its object is written, wherever else it is imported.

    A name of another library, and one of ours that has no text, stays a name. What a text names that is not there is a
    warning; annotations are left alone, whose names may be known to type checkers only.
    """
    if node.get("refdomain") != "py":
        return None
    target, module, owner = node["reftarget"], node.get("py:module") or "", node.get("py:class") or ""
    objects = env.domaindata["py"]["objects"]
    values = [value for name in (f"{module}.{owner}.{target}", f"{module}.{target}", target) for value in find(name)]
    homes = [f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}" for value in values[:1]]
    homes = homes or [name for name in objects if name.endswith(f".{target}")]  # of another module of ours
    if len(homes) == 1 and homes[0] in objects:
        entry = objects[homes[0]]
        uri = app.builder.get_relative_uri(node["refdoc"], entry.docname)
        return nodes.reference("", "", contnode, internal=True, refuri=f"{uri}#{entry.node_id}")
    return contnode if values or "refwarn" not in node else None


def find(name: str) -> list[Any]:
    """The object of that dotted name, if there is one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except (ImportError, ValueError):
            continue
        for part in parts[end:]:
            owner, value = value, getattr(value, part, None)
            if value is None and part not in getattr(owner, "__annotations__", {}):
                return []
        return [value]
    return []


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    os.environ["SPHINX_APIDOC_OPTIONS"] = "members,show-inheritance"
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-skip-member", skip_borrowed)
    app.connect("source-read", add_navigation)
    app.connect("missing-reference", resolve)
