"""Write codemeta.json and .zenodo.json, which archives read, from what pyproject.toml, CITATION.cff and qsim say.

`python tools/metadata.py` writes them; `tests/test_release.py` fails if they are not what it would write.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def codemeta() -> dict[str, Any]:
    """Return the description of the software in the vocabulary of CodeMeta 3.0."""
    project, urls = _project()
    about: dict[str, Any] = {
        "@context": "https://w3id.org/codemeta/3.0",
        "type": "SoftwareSourceCode",
        "name": project["name"],
        "description": project["description"],
        "version": _cited("version"),
        "datePublished": _cited("date-released"),
        "license": f"https://spdx.org/licenses/{project['license']}",
        "author": [{"type": "Organization", "name": author["name"]} for author in project["authors"]],
        "keywords": project["keywords"],
        "programmingLanguage": "Python",
        "runtimePlatform": f"Python {project['requires-python']}",
        "operatingSystem": "Linux",
        "softwareRequirements": project["dependencies"],
        "developmentStatus": "active",
    }
    links = {"codeRepository": "Repository", "issueTracker": "Issues", "softwareHelp": "Documentation"}
    return about | {field: urls[name] for field, name in links.items() if name in urls}


def zenodo() -> dict[str, Any]:
    """Return the metadata of the archived release."""
    project, urls = _project()
    about: dict[str, Any] = {
        "title": _cited("title"),
        "description": project["description"],
        "upload_type": "software",
        "version": _cited("version"),
        "publication_date": _cited("date-released"),
        "license": project["license"],
        "access_right": "open",
        "creators": [{"name": author["name"]} for author in project["authors"]],
        "keywords": project["keywords"],
    }
    if "Repository" in urls:
        about["related_identifiers"] = [{"identifier": urls["Repository"], "relation": "isSupplementTo"}]
    return about


FILES = {"codemeta.json": codemeta, ".zenodo.json": zenodo}
"""What is written, and what makes it."""


def text(name: str) -> str:
    """Return what a file is to hold."""
    return json.dumps(FILES[name](), indent=2) + "\n"


def _project() -> tuple[dict[str, Any], dict[str, str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project, project.get("urls", {})


def _cited(field: str) -> str:
    """Return a field of the first level of CITATION.cff."""
    found = re.search(rf'^{field}: "?(.+?)"?$', (ROOT / "CITATION.cff").read_text(encoding="utf-8"), flags=re.M)
    if found is None:
        raise ValueError(f"CITATION.cff says no {field}")
    return found[1]


if __name__ == "__main__":
    for name in FILES:
        (ROOT / name).write_text(text(name), encoding="utf-8")
