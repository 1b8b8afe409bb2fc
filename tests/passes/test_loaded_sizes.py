"""Programs with dynamic dimensions, loaded at several sizes: claims against the run at each.

Among the sizes are 0 and 1, where layouts say less, and inputs that are not contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import passes
from passes import CaptureError, Program
from tests.conformance.captures import Captured, quiet
from tests.conformance.suite import judged
from tests.oracle.run import observe, placeholders_of

PROGRAMS: Mapping[str, Callable[[Any, Tensor], Any]] = {
    "views": lambda m, x: x.t().unsqueeze(0).expand(3, -1, -1).select(0, 1).add(1),
    "view": lambda m, x: (x + 1).view(-1).mul_(2),
    "reshape": lambda m, x: x.reshape(-1).sin_(),
    "reshape transposed": lambda m, x: x.t().reshape(-1).mul_(2),
    "contiguous": lambda m, x: x.t().contiguous().add_(1),
    "a column": lambda m, x: x[:, :1].contiguous().add_(1),
    "flatten": lambda m, x: (x * 2).t().flatten().neg_(),
    "split": lambda m, x: [part.exp() for part in x.tensor_split(2, 1)],
    "halves": lambda m, x: torch.cat(x.chunk(2, 1), 1).add_(x),
    "in place of an input": lambda m, x: (x.mul_(2), x.view_as(x))[1],
    "new like": lambda m, x: torch.zeros_like(x).add_(x).to(torch.float32),
    "matmul": lambda m, x: (x @ x.t()).softmax(-1).t().reshape(-1),
    "linear": lambda m, x: m.linear(x).relu_().view(-1, 2, 2).transpose(0, 1).reshape(-1),
    "dropout": lambda m, x: torch.dropout(x, 0.5, False).add_(1),
    "where": lambda m, x: torch.where(x > 1, x, 0).cumsum(0)[:1],
    "other types": lambda m, x: x.to(torch.float64).to(torch.float32).contiguous(),
    "scatter": lambda m, x: torch.slice_scatter(x, x[:, :1] * 0, 1, 0, 1).add_(1),
    "state": lambda m, x: (m.total.add_(x.sum(0)), m.total[:2].view(2))[1] + 1,
}
INPUTS: Mapping[str, Callable[[int], Tensor]] = {
    "contiguous": lambda rows: torch.arange(4.0 * rows).view(rows, 4),
    "transposed": lambda rows: torch.arange(4.0 * rows).view(4, rows).t(),
    "part": lambda rows: torch.arange(12.0 * rows).view(rows, 12)[:, 4:8],
}
SIZES = (0, 1, 2, 7)


class Model(nn.Module):
    def __init__(self, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.linear = nn.Linear(4, 4)
        self.total = nn.Buffer(torch.zeros(4))

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


@pytest.mark.parametrize("name", PROGRAMS)
def test_claims_hold_at_every_size(name: str) -> None:
    model = Model(PROGRAMS[name])
    with quiet():
        exported = torch.export.export(
            model, (INPUTS["contiguous"](5),), dynamic_shapes={"x": {0: Dim("rows", min=0)}}
        )
        for make in INPUTS.values():
            for rows in SIZES:
                x = make(rows)
                values = placeholders_of(exported, (x,))
                try:
                    run = observe(exported.graph_module, values)
                except RuntimeError:  # a view that this layout does not have
                    continue
                one = Captured(exported.graph_module, values, exported, (x,))
                programs: dict[str, Program] = {}
                assert not list(judged(one, run, "observed", programs)), (x.shape, x.stride())
                # What was recorded is recorded of one size.
                with pytest.raises(CaptureError, match="effects='observed'"):
                    passes.load(exported, x, effects="declared")
