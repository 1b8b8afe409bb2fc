"""Everything that knows torch.  Each module here makes a `Program`, or is asked by one that does.

load.py       which source is it, and how is it captured: the front door
forward.py    a model's forward as it runs; training.py, a whole training step, with held.py,
              losses.py and optimizers.py; compiled.py, the graphs of a `torch.compile`
fitting.py    the program whose bytes are asked for
trials.py     one op of a program, done again
shapes.py     `shape_prop_pass`, what GraphAnalyser reads

capture/      from what a user has to an fx graph
walk/         from an fx graph to ops, node by node
effects/      what one call does to storages: observed, or declared
fakes/        the fake world: tensors without data
dynamic/      sizes that are not fixed
"""
