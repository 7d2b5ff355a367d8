"""Why an image or video could not be restored."""

from inference.memory import is_out_of_memory
from utils.errors import InputError


def reason_of(error: Exception) -> str:
    """What went wrong with one file, in one line."""
    if isinstance(error, InputError):
        return str(error)
    if is_out_of_memory(error):
        return "not enough memory to restore this file"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
