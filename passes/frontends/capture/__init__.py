"""From what a user has to an fx graph: an exported or traced module, a `.pt2` file, a recording
of a Python function, what AOTAutograd and Dynamo say of their graphs.
"""
