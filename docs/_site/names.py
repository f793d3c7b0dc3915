"""Links to the API reference: from what is written as code in prose, and from every name that a thing has.

A thing is documented under one name, the shortest: `qsim.compressors.QSGD` and `qsim.compressors.qsgd.QSGD` are on the
page of `qsim.QSGD`.
"""

from __future__ import annotations

import re
from pkgutil import resolve_name
from typing import Any

import reference
from docutils import nodes
from sphinx.addnodes import desc_signature, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

CODE = re.compile(r"(qsim\.[\w.]*\w|[A-Z]\w*(?:\.\w+)?)(\(.*\))?", flags=re.S)
PAGE = re.compile(r"docs/([\w/-]+)\.md")


class Names:
    """The public names, and where they are documented."""

    def __init__(self) -> None:
        self.documented: dict[int, str] = {}
        self.short: dict[str, set[str]] = {}
        self.modules: dict[str, set[str]] = {}
        for module, names in reference.public().items():
            for name, thing in names.items():
                self.documented[id(thing)] = name
                self.modules.setdefault(name.rpartition(".")[2], {"qsim"}).add(module)
                self.short.setdefault(name.rpartition(".")[2], set()).add(name)

    def find(self, name: str) -> str | None:
        """Return the documented name of what a name stands for, such as `qsim.QSGD` for `qsim.compressors.QSGD`."""
        if not name.startswith("qsim."):
            owner, *member = name.split(".")
            (found, *others) = self.short.get(owner, {None})
            return None if others or not found else ".".join([found, *member])
        for owner, member in ((name, ""), name.rsplit(".", 1)):
            try:
                found = self.documented.get(id(resolve_name(owner)))
            except (AttributeError, ImportError):
                continue
            if found:
                return f"{found}.{member}".rstrip(".")
        return None


names = Names()


class LinkNames(SphinxPostTransform):
    """Make links of literals that are public names, their members or calls of them, but on the page of the name."""

    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            match = CODE.fullmatch(literal.astext())
            if not match or isinstance(literal.parent, nodes.reference | pending_xref | nodes.title):
                continue
            found = reference_node(self.env, self.env.docname, match[1], literal.deepcopy())
            if found is not None:
                literal.replace_self(found)


def reference_node(env: BuildEnvironment, page: str, name: str, content: nodes.Node) -> nodes.reference | None:
    """Return a link to the documentation of a name, or None if it has none or stands on this page."""
    objects = env.domains.python_domain.objects
    found = names.find(name) or name
    entry = objects.get(found) or objects.get(found.rpartition(".")[0])  # a field stands in the docstring of its class
    modules = env.domains.python_domain.modules
    if entry is None and name in modules:
        return make_refnode(env.app.builder, page, f"api/{name}.module", "", content, name)
    if entry is None or entry.docname == page:
        return None
    return make_refnode(env.app.builder, page, entry.docname, entry.node_id, content, name)


def missing(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """Find what is referred to by another name than that of its page."""
    written = PAGE.fullmatch(node.get("reftarget", ""))
    if written and written[1] in env.found_docs:
        return make_refnode(app.builder, node["refdoc"], written[1], "", content)
    code = CODE.fullmatch(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or code is None:
        return None
    return reference_node(env, node.get("refdoc", ""), code[1], content)


def anchor(app: Sphinx, document: nodes.document) -> None:
    """Let what is documented be found by all its names; the pages of sources lead to it by some of them."""
    for signature in document.findall(desc_signature):
        full = signature.get("fullname") or ""
        for module in sorted(names.modules.get(full.partition(".")[0], ())):
            if f"{module}.{full}" not in signature["ids"]:
                signature["ids"].append(f"{module}.{full}")


def forget_builtins(app: Sphinx) -> list[Any]:
    """Keep modules without a source, from which short names of types come, off the list of sources."""
    sources = getattr(app.env, "_viewcode_modules", {})
    for module in [module for module, source in sources.items() if not source]:
        del sources[module]
    return []


def escape(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep absolute values and norms, |v| and ||v||, from being read as substitutions of reStructuredText."""
    formula = False
    for place, line in enumerate(lines):
        formula = line.startswith("    ") or not line if formula else line == ".. math::"
        if not formula and not line.lstrip().startswith((">>>", "...")):
            lines[place] = re.sub(r"(``.*?``)|(`.*?`)|\\?\|", lambda match: match[1] or match[2] or r"\|", line)


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.add_post_transform(LinkNames)
    app.connect("missing-reference", missing)
    app.connect("doctree-read", anchor)
    app.connect("html-collect-pages", forget_builtins, priority=100)  # before viewcode
    app.connect("autodoc-process-docstring", escape, priority=900)  # after numpydoc
    return {"parallel_read_safe": True, "parallel_write_safe": True}
