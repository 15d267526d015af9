"""Settings of the documentation: `make docs` builds it into out/docs, with no network and with warnings as errors.

The source folder is the repository itself, so that pages, notebooks and model cards link to each other as they do on a code host.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "site"), str(HERE.parent)]

import stg_lab  # noqa: E402

project = "stg_lab"
author = "The stg_lab authors"
copyright = author
version = release = stg_lab.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "api_names",
    "explorers",
    "mathml",
    "notebook_outputs",
]
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/*", "data/*/README.md", "data/models/*/README.md"]
exclude_patterns = [".venv", "out", "runs", "dist", "docs/site", "docs/images", "docs/figures", "**/.ipynb_checkpoints"]

nb_execution_mode = "off"  # what the notebooks hold is what is shown
nb_custom_formats = {".ipynb": "notebook_outputs.read"}
myst_enable_extensions = ["dollarmath", "colon_fence", "html_image"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # pages made from findings may skip a level

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures have them; once is enough
autodoc_preserve_defaults = True
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"stg_lab {version}"
html_math_renderer = "mathml"
html_static_path = ["site/static"]
html_extra_path = ["site/top"]  # the page that leads from the top folder to the first one
html_css_files = ["site.css"]
html_js_files = ["frames.js", "plots.js"]
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # it would fetch pages, which browsers refuse for files
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0063a0", "color-brand-content": "#0063a0"},
    "dark_css_variables": {"color-brand-primary": "#6cc0f0", "color-brand-content": "#6cc0f0"},
}
