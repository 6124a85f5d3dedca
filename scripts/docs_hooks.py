"""What mkdocs does not do by itself for this site; mkdocs.yml names this file.

- The sources are Markdown for GitHub, too, so pages link to files outside docs/, such as `../results/README.md`.
  Pictures are copied into the site. Other links lead to the repository, if pyproject.toml names it under
  `[project.urls]`; without an address, files are copied and folders become plain text.
- `<!-- ::: entrocraft.linear -->`, which GitHub hides, becomes the directive that mkdocstrings reads.
- `Example:` in a docstring becomes a section with code, for which mkdocstrings knows the plural only.
- A page that would load anything from another machine is refused.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import griffe
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
COPIES = "repository"
"""Folder of the site for what lies outside docs/."""
PICTURES = {".png", ".svg"}

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")
_DIRECTIVE = re.compile(r"^<!-- (::: [\w.]+) -->$", re.MULTILINE)
_LOADS = re.compile(
    r"<(?:script|img|iframe|source|audio|video)\b[^>]*?\bsrc(?:set)?=[\"']?(?:https?:)?//[^>]*>"
    r"|<link\b(?![^>]*\brel=[\"']?canonical)[^>]*?\bhref=[\"']?(?:https?:)?//[^>]*>"
    r"|url\([\"']?(?:https?:)?//[^)]*\)"
)


def repository_url() -> str | None:
    """Return the address under `[project.urls]` in pyproject.toml, `Repository` or `Source`, or None."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("urls", {})
    url = urls.get("Repository") or urls.get("Source")
    return url.rstrip("/") if url else None


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Return a page's source with links and directives as mkdocs wants them."""
    url, depth = repository_url(), page.file.src_uri.count("/")

    def copied(path: str) -> str:
        name = f"{COPIES}/{path}" + (".txt" if path.endswith(".md") else "")  # not another page of the site
        if files.get_file_from_path(name) is None:
            files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
        return "../" * depth + name

    def rewritten(link: re.Match[str]) -> str:
        picture, text, target, anchor = link[1], link[2], link[3], link[4] or ""
        there = ((ROOT / "docs" / page.file.src_uri).parent / target).resolve()
        if not there.is_relative_to(ROOT) or not there.exists():
            raise PluginError(f"{page.file.src_uri}: {target} is not there")
        path = there.relative_to(ROOT).as_posix()
        if picture or there.suffix in PICTURES:
            return f"{picture}[{text}]({copied(path)})"
        if url:
            return f"[{text}]({url}/{'tree' if there.is_dir() else 'blob'}/main/{path}{anchor})"
        if there.is_dir():
            return text if path in text else f"{text} (`{path}`)"
        return f"[{text}]({copied(path)})"

    return _DIRECTIVE.sub(r"\1", _LINK.sub(rewritten, markdown))


def on_post_page(output: str, page: Page, config: Any) -> str:
    """Refuse a page that loads something from another machine."""
    loaded = _LOADS.search(output)
    if loaded:
        raise PluginError(f"{page.file.src_uri} would load something from another machine: {loaded[0]}")
    return output


class Examples(griffe.Extension):
    """Rename sections of docstrings; mkdocs.yml names this class among the extensions of mkdocstrings."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Make `Example:` of one object `Examples:`."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
