"""The site that `make docs` builds: MyST for the pages, autodoc for the API. The build needs no network."""

import sys
from pathlib import Path

from pydantic import BaseModel
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import tskd_tune  # noqa: E402

project = "tskd-tune"
author = "The tskd-tune authors"
copyright = author
release = version = tskd_tune.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"tskd-tune {release}"
html_show_sphinx = False
templates_path: list[str] = []

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_ambiguous"]

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
default_role = "code"  # a docstring writes `name` for a name of the code
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 100


def _short(app: Sphinx, what: str, name: str, thing: object, *others: object) -> tuple[str, str] | None:
    """Leave out the signature of a Pydantic model: it repeats all fields with their validators."""
    return ("", "") if isinstance(thing, type) and issubclass(thing, BaseModel) else None


def setup(app: Sphinx) -> None:
    """Tell Sphinx what differs from its defaults."""
    app.connect("autodoc-process-signature", _short)
