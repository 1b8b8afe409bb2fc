"""The fake world: tensors with shapes, strides and storages but without data, as real kernels
would make them.  `world.py` first; most others are where torch's fake kernels differ from those.
"""
