"""What a person names on the command line as `module:function`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module

from passes.errors import CaptureError

A_FACTORY = "factory, such as examples.models:gpt2"
A_LOSS = "function, such as torch.nn.functional:cross_entropy"


def is_file(model: str) -> bool:
    """Whether a name on the command line is that of a file."""
    return model.endswith(".pt2") or os.path.exists(model)


def function_named(name: str, example: str) -> Callable[..., object]:
    """The function `module:function`, with the module imported, since the user named it.

    Looked for in the working directory, then in the environment.  Raises `CaptureError`, which
    shows an example, for a name of another form and where there is no such function.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise CaptureError(f"there is no file {name!r}, and it is not module:{example}")
    sys.path.insert(0, os.getcwd())
    try:
        module = import_module(module_name)
    except (Exception, SystemExit) as error:
        advice = f"looked in {os.getcwd()} and the environment"
        if module_name.endswith(".py"):
            path = os.path.relpath(module_name).removesuffix(".py").replace(os.sep, ".")
            advice = f"give the module, not its file: {path}:{function_name}"
        raise CaptureError(
            f"cannot import {module_name}: {type(error).__name__}: {error} ({advice})"
        ) from error
    function: object = getattr(module, function_name, None)
    if not callable(function):
        raise CaptureError(f"{module_name} has no function {function_name}")
    return function


def called(function: Callable[..., object], name: str) -> object:
    """What a function without arguments returns.  Raises `CaptureError` for what it raises."""
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise CaptureError(f"{name}() raised {type(error).__name__}: {error}") from error
