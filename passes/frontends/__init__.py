"""Everything that knows torch: each module here helps to make a `Program`.

The ones to begin with; of each of the others, which know one thing of torch, the first line says
which.

load.py      which source is it, and how is it captured
fx.py        walk a graph node by node on fake tensors, observe, write down ops
fakes.py     the fake world: state and inputs without data, storages by identity
observe.py   what one node did: which storages it wrote, overwrote, left unwritten
watched.py   the op for a node, from what was observed
declared.py  what an operator's schema says, for nodes that cannot run on fakes
regions.py   operators with sub-graphs: how values and control go through them
tracer.py    symbolic tracing with meta tensors and bias splitting
shapes.py    shape_prop_pass, what GraphAnalyser reads
"""
