"""The documents' Python is run as it stands."""

import inspect
import re
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import hookonce

from .conftest import ROOT, TOKEN, Service

DOCUMENTS = [ROOT / "docs/idempotency.md", Path(__file__).parents[1] / "README.md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_in(service: Service, document: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    assert blocks
    code = "\n".join(blocks).replace("http://127.0.0.1:8081", service.url)
    for name in ("order-1", "conversation-7"):
        code = code.replace(f'"{name}"', f'"{uuid.uuid4()}"')
    charged: list[str] = []

    def charge(amount: int, idempotency_key: str) -> str:
        charged.append(idempotency_key)
        return f"charged {amount}"

    names: dict[str, Any] = {
        "token": TOKEN,
        "Order": SimpleNamespace,
        "order": SimpleNamespace(id=str(uuid.uuid4()), amount=5),
        "bank": SimpleNamespace(charge=charge, find=lambda idempotency_key: None),
    }
    for _ in range(2):
        exec(compile(code, str(document), "exec"), names)
        assert len(charged) == len(set(charged)) == 2, "once each, whatever is called again"


def test_each_public_name_says_what_it_is() -> None:
    silent = []
    for name in hookonce.__all__:
        public = getattr(hookonce, name)
        named = {name: public} if inspect.isclass(public) or inspect.isfunction(public) else {}
        if inspect.isclass(public):
            named |= {f"{name}.{member}": value for member, value in vars(public).items() if not member.startswith("_")}
        for place, value in named.items():
            value = value.fget if isinstance(value, property) else value
            if (inspect.isfunction(value) or inspect.isclass(value)) and (not value.__doc__ or value.__doc__.startswith(f"{name}(")):
                silent.append(place)
    assert not silent
