"""Every suggestion on real architectures holds when the changed graph is run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import passes
from tests.oracle.advised import check
from tests.oracle.models import MODELS
from tests.oracle.steps import STEPS
from tests.oracle.test_steps import _real_tensors, _seeded, _step

QUICK = {
    "unet_traced", "tied_traced", "recurrent_traced", "chunks_traced", "methods_traced",
    "strided_traced", "slices_traced", "custom_exported", "normalizer_compiled", "aot_backward",
    "functional_exported", "contexts_exported", "maybe_views_decomposed",
}  # fmt: skip

QUICK_STEPS = {"cnn_accumulating", "messages"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in MODELS]
)
def test_suggestions_hold_when_run(name: str) -> None:
    case = MODELS[name]()
    program = passes.load(case.source, *case.args, **case.kwargs)
    for suggestion in passes.advise(program).suggestions:
        assert suggestion.saved_bytes > 0
        check(program, suggestion, case.placeholder_values)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK_STEPS else pytest.mark.slow) for n in STEPS]
)
def test_suggestions_hold_for_training_steps(name: str) -> None:
    case = STEPS[name]()
    native = any(isinstance(module, nn.LSTM) for module in case.model.modules())
    with torch.backends.mkldnn.flags(enabled=not native):
        model, optimizer = case.model, case.optimizer(case.model.parameters())
        _seeded(lambda: _step(case, model, optimizer))
        program = passes.load_training_step(
            model, case.loss, optimizer, *case.inputs, zero_grad=case.zero_grad, **case.keywords
        )
        values = list(_real_tensors(case, program, model, optimizer))
        for suggestion in passes.advise(program).suggestions:
            check(program, suggestion, values)
