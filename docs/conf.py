"""Sphinx configuration: Markdown pages, a reference from the docstrings, no network."""

from sphinx.application import Sphinx
from sphinx.ext.napoleon.docstring import GoogleDocstring

from pywebtransport import __version__

project = "pywebtransport"
author = "pywebtransport contributors"
copyright = "2026, pywebtransport contributors"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]

source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
# What a copy button takes of a console session: the commands, without their prompts.
copybutton_prompt_text = "$ "
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Google-style docstrings, with the section of our own that every coroutine has.
napoleon_numpy_docstring = False
napoleon_include_init_with_doc = True
napoleon_use_ivar = True
napoleon_custom_sections = ["Cancellation", "Cancellation safety", "Concurrency"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True, "inherited-members": False}
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = f"pywebtransport {__version__}"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_theme_options = {
    "source_repository": "https://github.com/pywebtransport/pywebtransport/",
    "source_branch": "main",
    "source_directory": "docs/",
    "footer_icons": [
        {
            "name": "GitHub",
            "url": "https://github.com/pywebtransport/pywebtransport",
            "html": (
                '<svg fill="currentColor" viewBox="0 0 24 24" aria-hidden="true"><path d="M8 4 1 12'
                'l7 8h3l-7-8 7-8zm8 0h-3l7 8-7 8h3l7-8z"/></svg>'
            ),
        }
    ],
}
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_js_files = [("scaling.js", {"defer": "defer"})]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "native"


def _whole_text(self: GoogleDocstring) -> tuple[str, list[str]]:
    """Read a property's docstring as text, also when its first sentence has a colon.

    Napoleon would take "End reached: no more bytes." for "type: description".
    """
    lines = self._dedent(self._consume_to_end())
    return "", GoogleDocstring(lines, self._config).lines()


GoogleDocstring._consume_inline_attribute = _whole_text


# Modules with bases of public classes.
_SHARED = ("pywebtransport.utils._closing", "pywebtransport.rpc._results")


def _show_public_bases(
    app: Sphinx, name: str, owner: object, options: object, bases: list[type]
) -> None:
    """Leave out the bases that programs do not name: what they share is in the classes."""
    bases[:] = [base for base in bases if base.__module__ not in _SHARED]
    bases += [] if bases else [object]


def setup(app: Sphinx) -> None:
    """Register the function above."""
    app.connect("autodoc-process-bases", _show_public_bases)
