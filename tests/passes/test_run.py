"""A user's analysis over a program, its needs filled in."""

from __future__ import annotations

import pytest
import torch
from attrs import frozen
from torch import Tensor

import passes
from dataflow import Forward, Lattice, Powerset, solve
from passes import Aliases, Op, Storage
from tests.passes.programs import traced


@frozen
class MaybeGarbage(Forward[Op, frozenset[Storage]]):
    """Storages from `empty*` that no later write covers in full."""

    aliases: Aliases
    lattice: Lattice[frozenset[Storage]] = Powerset()

    def transfer(self, op: Op, value: frozenset[Storage]) -> frozenset[Storage]:
        return (value - self.aliases.overwritten_by(op)) | self.aliases.uninitialised_by(op)


def _partly(x: Tensor) -> Tensor:
    e = torch.empty_like(x)
    e[0].fill_(1)
    return e + x


def _wholly(x: Tensor) -> Tensor:
    e = torch.empty_like(x)
    e.fill_(1)
    return e + x


def test_fields_are_computed_and_filled_in() -> None:
    program = traced(_partly, torch.rand(4, 4))
    results = passes.run(MaybeGarbage, program)
    assert {s.name for s in results.before(program.op("add"))} == {"empty_like"}


def test_it_does_not_fire_where_all_is_written() -> None:
    program = traced(_wholly, torch.rand(4, 4))
    results = passes.run(MaybeGarbage, program)
    assert results.before(program.op("add")) == frozenset()
    assert {s.name for s in results.after(program.op("empty_like"))} == {"empty_like"}


def test_explicit_and_filled_in_agree() -> None:
    program = traced(_partly, torch.rand(4, 4))
    explicit = solve(MaybeGarbage(aliases=passes.aliases(program)), program)
    filled = passes.run(MaybeGarbage, program)
    assert all(explicit.after(op) == filled.after(op) for op in program.walk())


@frozen
class Needy(Forward[Op, frozenset[str]]):
    names: frozenset[str]
    lattice: Lattice[frozenset[str]] = Powerset()

    def transfer(self, op: Op, value: frozenset[str]) -> frozenset[str]:
        return value | ({op.name} & self.names)


def test_what_cannot_be_filled_in_is_asked_for() -> None:
    program = traced(_wholly, torch.rand(4, 4))
    with pytest.raises(TypeError, match=r"Needy\.names has no default"):
        passes.run(Needy, program)
    results = passes.run(Needy, program, names=frozenset({"add"}))
    assert results.after(program.ops[-1]) == {"add"}


@frozen
class Private(Forward[Op, frozenset[str]]):
    """A field that its class takes under another name than it has."""

    _names: frozenset[str]
    _aliases: Aliases
    lattice: Lattice[frozenset[str]] = Powerset()

    def transfer(self, op: Op, value: frozenset[str]) -> frozenset[str]:
        written = {found.id for found in self._aliases.written_by(op)}
        return value | (written & self._names)


def test_fields_are_given_by_the_names_that_the_class_takes() -> None:
    program = traced(_wholly, torch.rand(4, 4))
    results = passes.run(Private, program, names=frozenset({"empty_like"}))
    assert results.after(program.ops[-1]) == {"empty_like"}
    with pytest.raises(TypeError, match=r"Private\._names has no default.*run\(\.\.\., names="):
        passes.run(Private, program)


def test_a_class_is_given_not_an_instance() -> None:
    program = traced(_wholly, torch.rand(4, 4))
    with pytest.raises(TypeError, match="give the class and its fields by name"):
        passes.run(Needy(frozenset()), program)  # type: ignore[call-overload]  # on purpose


def test_a_class_made_in_a_function() -> None:
    """Of its types only those that are needed are looked up, in the module."""

    @frozen
    class Own:
        names: frozenset[str]

        @classmethod
        def of(cls, program: passes.Program) -> Own:
            return cls(frozenset(op.name for op in program.ops))

    @frozen
    class Local(Forward[Op, frozenset[str]]):
        aliases: Aliases
        own: Own
        lattice: Lattice[frozenset[str]] = Powerset()

        def transfer(self, op: Op, value: frozenset[str]) -> frozenset[str]:
            return value | (self.own.names & {op.name})

    program = traced(_wholly, torch.rand(4, 4))
    own = Own.of(program)
    assert passes.run(Local, program, own=own).after(program.ops[-1]) == own.names
    with pytest.raises(
        TypeError, match=r"Local\.own has the type 'Own', and name 'Own' is not def"
    ):
        passes.run(Local, program)
