"""Memory as a function of dynamic dimensions.

sizes      polynomials in symbols
bounds     between which numbers they are
envelope   which of several are the greatest somewhere
dynamic    the symbols of a program, and facts with the conditions under which they hold
cases      the bytes at each op, per set of sizes for which the same facts hold
largest    the largest size within a budget
at_most    the largest sizes, standing for all smaller ones
memory     the answer
"""
