"""What one call does to storages: observed while it runs on fakes, or as its schema declares it.

observe.py and watched.py are the one way, declared.py with its tables (schema.py, views.py) the
other; assumed.py is for nodes of which a run does not show everything.
"""
