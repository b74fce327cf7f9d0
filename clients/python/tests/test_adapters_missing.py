"""An adapter without its library says what to install."""

import importlib
import sys

import pytest

LIBRARIES = {
    "langgraph": "langgraph",
    "openai_agents": "agents",
    "pydantic_ai": "pydantic_ai",
    "mcp": "mcp",
    "celery": "celery",
    "rq": "rq",
    "fastapi": "starlette",
    "flask": "flask",
}


@pytest.mark.parametrize(("adapter", "library"), LIBRARIES.items())
def test_without_its_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, adapter: str, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"hookonce.{adapter}", raising=False)
    extra = adapter.replace("_", "-")
    with pytest.raises(ImportError, match=rf"pip install 'hookonce\[{extra}\]'"):
        importlib.import_module(f"hookonce.{adapter}")
