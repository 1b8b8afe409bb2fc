"""Calls of operators that real graphs contain and torch's table of samples does not."""

from __future__ import annotations

from tests.conformance.calls import Call

EXTRA: list[Call] = []
