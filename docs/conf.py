"""The documentation: `python -m sphinx docs docs/_build`, with `-D nb_execution_mode=off` nothing is executed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Generation Loss"
author = "the authors of Generation Loss"
extensions = ["myst_nb", "sphinx.ext.autodoc", "docstrings", "executed", "formulas", "made"]
html_math_renderer = "mathml"
exclude_patterns = ["_build", "examples", "jupyter_execute"]  # the last is myst-nb's
html_theme = "sphinx_book_theme"
html_title = "Generation Loss"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"show_toc_level": 2, "home_page_in_toc": True, "navbar_persistent": []}

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).parent / "_build" / ".jupyter_cache")
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
default_role = "literal"

# A reference that is written must lead somewhere; types in signatures, many of them other libraries', need not.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*"), ("py:data", ".*"), ("py:obj", "None|typing.*")]
