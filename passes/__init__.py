"""Dataflow analyses of PyTorch programs."""
from __future__ import annotations


def load(source: object, *example_inputs: object, trust: bool = False, **example_kwargs: object):
    from passes.frontends.load import load as load_
    return load_(source, example_inputs, example_kwargs, trust=trust)
