"""Read a `.pt2` file, if its user trusts where it comes from."""

from __future__ import annotations

import zipfile

import torch
from torch.export import ExportedProgram

from passes.errors import CaptureError, TrustError
from passes.frontends.capture.module import first_line


def saved_program(path: str, trust: bool) -> ExportedProgram:
    """The exported program in a file.  Raises `TrustError` without trust, and `CaptureError` if
    torch cannot read it."""
    if "\0" in path or not zipfile.is_zipfile(path):
        # Opened only to tell a missing file from a foreign one.
        try:
            open(path, "rb").close()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CaptureError(f"cannot read {path}: {reason}") from error
        raise CaptureError(
            f"{path} is not a .pt2 file (they are zip archives): save one with "
            "torch.export.save(torch.export.export(model, inputs), path)"
        )
    if not trust:
        raise TrustError(
            f"torch's reader for {path} may unpickle, and a pickle can run any code. If you "
            "trust where the file comes from, pass trust=True (on the command line: --trust)"
        )
    try:
        return torch.export.load(path)
    except Exception as error:
        raise CaptureError(
            f"torch cannot read {path} as an exported program "
            f"({type(error).__name__}: {first_line(error)}). It may be damaged, of another "
            "kind, or of another torch version; export and save it again"
        ) from error
