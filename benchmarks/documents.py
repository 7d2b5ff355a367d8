"""Tables in the documentation, between two lines that name the command that writes them."""

from pathlib import Path

from utils.errors import InputError
from utils.text_files import read_text


def markers(command: str) -> tuple[str, str]:
    """The lines before and after what ``command`` writes."""
    return f"<!-- written by {command} -->", f"<!-- end of what {command} writes -->"


def with_tables(document: Path, command: str, text: str) -> str:
    """The document with ``text`` in the place of ``command``.

    Raises:
        InputError: the lines that mark the place are missing.
    """
    begin, end = markers(command)
    before, found, rest = read_text(document).partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise InputError(f"{document}: no place for the tables; expected the lines {begin} and {end}")
    return f"{before}{begin}\n\n{text}\n{end}{after}"
