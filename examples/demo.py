"""`make demo`: what lives, dies and weighs in three models, the small one in full."""

from __future__ import annotations

import sys
from pathlib import Path

# The examples are not part of the distribution.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import passes
from examples.models import gpt2, linear_model, resnet50
from passes.report import text


def main() -> None:
    print("=== A model of two linear layers: its ops, and what lives and dies at each ===\n")
    model, inputs = linear_model()
    program = passes.load(model, *inputs)
    print("\n".join(text.show(program)))
    print()
    print("\n".join(text.memory(passes.memory(program))))

    print("\n=== GPT-2, 12 layers, 124 million random weights: where is its peak? ===\n")
    model, tokens = gpt2()
    program = passes.load(model, *tokens)
    print("\n".join(text.memory(passes.memory(program))))

    print("\n=== A CNN of ResNet-50's size, its ReLUs in place ===\n")
    model, picture = resnet50()
    program = passes.load(model, *picture)
    print("\n".join(text.memory(passes.memory(program))))
    aliases = passes.aliases(program)
    written = [found for op in program.ops for found in aliases.written_by(op)]
    print(f"\n{len(written)} writes in place, and {len(aliases.classes)} storage classes")


if __name__ == "__main__":
    main()
