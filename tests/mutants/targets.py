"""The files that get mutants, each with the tests that are about it, quick ones first."""

from __future__ import annotations


def _tests(folder: str, names: str) -> tuple[str, ...]:
    return tuple(f"tests/{folder}/test_{name}.py" for name in names.split())


_ENGINE = _tests(
    "dataflow",
    "sweep ends genkill goldens cost calls text explain edges takes order graph update edits"
    " together shared composed explain_together no_graph asking widening solve length"
    " explanations brute_force brute_force_values",
)
_GRAPHS = _tests("laws", "wellformed")
_LAWS = _tests("laws", "combinators impostors verify numeric partition lattices")
_PASSES = _tests(
    "passes",
    "alias points liveness spans memory corners higher_order plan program run seed dynamic"
    " breakdown declared holding",
)

TARGETS: dict[str, tuple[str, ...]] = {
    "dataflow/solve.py": (*_GRAPHS, *_ENGINE),
    "dataflow/order.py": _tests(
        "dataflow",
        "order sweep goldens calls edges together solve widening brute_force brute_force_values",
    ),
    "dataflow/components.py": _tests(
        "dataflow", "order cost sweep together solve length brute_force brute_force_values"
    ),
    "dataflow/analysis.py": _ENGINE,
    "dataflow/genkill.py": _tests(
        "dataflow", "genkill composed cost together brute_force update edits around"
    ),
    "dataflow/lattices.py": (*_LAWS, *_tests("dataflow", "goldens explain solve widening asking")),
    "dataflow/combinators.py": _LAWS,
    "dataflow/products.py": _LAWS,
    "dataflow/numeric.py": _LAWS,
    "dataflow/partition.py": _tests("laws", "partition impostors verify lattices"),
    "passes/census.py": _PASSES,
    "passes/alias.py": _PASSES,
    "passes/storages.py": _PASSES,
    "passes/liveness.py": _PASSES,
}
