"""How Sphinx builds the site: `python -m sphinx -W --keep-going docs build/site`.

Sphinx with autodoc, because the reference of a Python library has to come from its docstrings, which link to each other
and to the guide; MyST, so that the guide stays the Markdown that is read in the repository; sphinx-gallery, so that
every figure of the gallery is made by the script beside it; the PyData theme, which readers know from NumPy and SciPy.

The site's own address and that of the repository are `Documentation` and `Repository` in the table [project.urls] of
pyproject.toml. Without them everything builds, and pages have no canonical address and no links to the repository.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE / "_site"), str(ROOT)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # for workers of examples

import matplotlib  # noqa: E402
import reference  # noqa: E402

import qsim  # noqa: E402

matplotlib.use("agg")
reference.write(HERE / "api")

urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
repository = urls.get("Repository", "")

project = "qsim"
author = "The qsim authors"
copyright = author
version = release = qsim.__version__
html_baseurl = urls.get("Documentation", "")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",  # MathJax among the site's own files: it reads without a network
    "outside",
    "names",
]
exclude_patterns = ["_site", "paper", "api/templates", "**/README.md", "**/*.ipynb", "**/*.py"]

templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

default_role = "py:obj"
autosummary_generate = sorted(str(path) for path in (HERE / "api").glob("*.rst"))
autosummary_generate_overwrite = True
autodoc_typehints = "none"  # docstrings say what parameters are, with shapes and units
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "within_subsection_order": "order.Order",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("qsim",),
    "reference_url": {"qsim": None},
    "reset_modules": ("order.our_style",),
    "remove_config_comments": True,
    "matplotlib_animations": False,
    "min_reported_time": 2,
    "show_memory": False,
    "write_computation_times": False,
    "plot_gallery": "True",
    "abort_on_example_error": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "qsim"
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_nav_level": 2,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": {
        "**": ["page-toc", "sg_download_links"],
        "comparison": [],  # wide tables need the room
        "methods": [],
    },
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "icon_links": [{"name": "Repository", "url": repository, "icon": "fa-brands fa-git-alt"}] if repository else [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "changelog": []}
