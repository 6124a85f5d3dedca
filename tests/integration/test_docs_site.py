"""The notebook runs, and the site is built with no warning and loads nothing from elsewhere."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.mark.slow
def test_the_notebook_runs():
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(DOCS / "notebook.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("STEPS = 24", "STEPS = 3").replace("num_prompts=32", "num_prompts=4")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute(env=environment)
    assert "3 steps, on average" in notebook.cells[-2].outputs[0]["text"]


@pytest.fixture
def hooks(monkeypatch):
    """Return the module that mkdocs.yml names among its hooks."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import docs_hooks

    return docs_hooks


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        "<style>@font-face{src:url(https://fonts.example/a)}</style>",
        "<img alt=x src=http://x.example/a.png>",
    ],
)
def test_a_page_that_would_load_something_from_elsewhere_is_refused(hooks, html):
    from types import SimpleNamespace

    page = SimpleNamespace(file=SimpleNamespace(src_uri="a.md"))
    with pytest.raises(hooks.PluginError, match=r"a\.md would load"):
        hooks.on_post_page(html, page=page, config=None)
    harmless = '<a href="https://arxiv.org">paper</a><img src="a.png"><link rel="icon" href="a.png">'
    assert hooks.on_post_page(harmless, page=page, config=None) == harmless


@pytest.mark.slow
@pytest.mark.parametrize("url", [None, "https://code.example/us/entrocraft"])
def test_the_site_is_built_strictly_with_and_without_an_address(hooks, url, tmp_path, monkeypatch):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True)
    (hook,) = [module for module in config.hooks.values() if hasattr(module, "repository_url")]
    monkeypatch.setattr(hook, "repository_url", lambda: url)
    config.plugins.run_event("startup", command="build", dirty=False)
    build(config)
    config.plugins.run_event("shutdown")
    page = (tmp_path / "results.html").read_text()
    target = f"{url}/blob/main/results/README.md" if url else "repository/results/README.md.txt"
    assert f'href="{target}"' in page
    assert (tmp_path / "repository/results/tracking/countdown.png").exists()
    assert "def linear" not in page and 'id="entrocraft.linear"' in (tmp_path / "api.html").read_text()
