"""Tests that are coroutines run here, too."""

from tests.telegram.conftest import pytest_pyfunc_call

__all__ = ["pytest_pyfunc_call"]
