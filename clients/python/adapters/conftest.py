"""The adapters' tests take the service of the client's own tests."""

from tests.conftest import service

__all__ = ["service"]
