"""Sphinx's settings for `make docs`: the pages are the documents where they lie, the reference is made of docstrings."""

import importlib
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ean_core", "classification", "segmentation", "crowd_counting")
sys.path.insert(0, str(ROOT))

project, author, copyright = "EAN", "The EAN developers", "the EAN developers"
release = importlib.import_module("ean_core").__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.apidoc"]

# The source folder is the repository's root, so that the documents' links lead to pages as they do to files.
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "docs/*.ipynb", "docs/reference/*/*.rst", "ean_core/*/README.md"]
exclude_patterns = [".*", "site", "build", "data", "work_dirs", "docs/reference/*/modules.rst"]
highlight_language = "sh"
myst_heading_anchors = 4
nb_execution_mode = "off"  # the notebook is kept as it ran; tests/test_tour.py runs it again

html_theme = "furo"  # brings its own styles; no page loads anything from elsewhere
html_title = f"EAN {release}"
html_show_sphinx = False
html_additional_pages = {"index": "index.html"}
templates_path = ["templates"]

nitpicky = True
autodoc_member_order = "bysource"
napoleon_use_ivar = True  # attributes are described once, where their class is
apidoc_modules = [{"path": f"../{package}", "destination": f"docs/reference/{package}"} for package in PACKAGES]
apidoc_automodule_options = {"members", "show-inheritance"}
apidoc_module_first = True


def add_navigation(app: Sphinx, docname: str, source: list[str]) -> None:
    """The first page leads to all others: those that the documents' index names, then those that it names itself."""
    if docname != root_doc:
        return
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    found = [posixpath.normpath(f"docs/{link}") for link in re.findall(r"\]\(([\w/.]+\.(?:md|ipynb))\)", index)]
    found += re.findall(r"\]\(([\w/]+\.(?:md|ipynb))\)", source[0])
    pages = list(dict.fromkeys(["docs/README.md", *found]))
    reference = [f"docs/reference/{package}/{package}" for package in PACKAGES]
    for caption, names in {"Documents": pages, "Reference": reference}.items():
        source[0] += "\n\n```{toctree}\n:hidden:\n:caption: " + caption + "\n\n" + "\n".join(names) + "\n```\n"


def resolve(app: Sphinx, env: Any, node: Any, contnode: nodes.Element) -> nodes.Node | None:
    """Lead a name to where its object is written, wherever else it is imported.

    A name of another library, and one of ours that has no text, stays a name; one that does not exist is a warning.
    """
    if node.get("refdomain") != "py":
        return None
    target, module, owner = node["reftarget"], node.get("py:module") or "", node.get("py:class") or ""
    outside = not module.startswith(PACKAGES) or ("." in target and not target.startswith(PACKAGES))
    for name in (f"{module}.{owner}.{target}", f"{module}.{target}", target):
        known, value = find(name)
        if not known:
            continue
        home = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
        entry = env.domaindata["py"]["objects"].get(home)
        if entry is not None:
            uri = app.builder.get_relative_uri(node["refdoc"], entry.docname)
            return nodes.reference("", "", contnode, internal=True, refuri=f"{uri}#{entry.node_id}")
        return contnode
    return contnode if outside else None


def find(name: str) -> tuple[bool, Any]:
    """Whether there is an object of that dotted name, and the object."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except (ImportError, ValueError):
            continue
        for part in parts[end:]:
            owner, value = value, getattr(value, part, None)
            if value is None and part not in getattr(owner, "__annotations__", {}):
                return False, None
        return True, value
    return False, None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
    app.connect("missing-reference", resolve)
