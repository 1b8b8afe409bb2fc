"""The errors people meet, each saying what, where, and what to do instead."""

from __future__ import annotations


class ProgramError(Exception):
    """A model cannot be turned into a Program, or a question has no answer in it."""


class CaptureError(ProgramError):
    """The source could not be captured as a graph, or not run with these inputs."""


class TrustError(ProgramError):
    """Reading the source may run code from it, and the user has not asked for that."""


class PlanError(ProgramError):
    """There is no plan, none was found, or what was asked for cannot be planned."""


class BudgetError(ProgramError, ValueError):
    """What was given as a budget is none, or no budget can be compared with the bytes."""
