"""Sizes that are not fixed: symbols for the dimensions of inputs, and what torch says of them."""
