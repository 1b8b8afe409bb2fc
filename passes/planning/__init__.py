"""Where to put buffers in one arena.  Plain integers: knows nothing of programs or torch.

buffers.py   what is asked: sizes and lifetimes; sections of time, the lower bound
skyline.py   a partial plan, as the heights that its buffers reach over time
dive.py      one pass from the bottom up: a plan, not always the smallest
room.py      whether a partial plan leaves room for the rest
search.py    every plan within a capacity, until one is found or none is left
solve.py     a plan within a capacity, or the smallest: dives, then searches
conflict.py  the few buffers for which there is no room, of many
check.py     whether a plan is one; shares nothing with what makes them
"""
