"""From an fx graph to ops, node by node: `observing.py` runs the nodes on fakes, `declaring.py`
runs none; `regions.py` is how values and control go through sub-graphs.
"""
