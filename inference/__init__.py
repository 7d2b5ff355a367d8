"""Restore images of any size and format: ``Restorer("best.pt").restore("photo.jpg")``."""

__all__ = ["Restorer"]


def __getattr__(name: str) -> object:
    """Import what is asked for: ``python -m inference.export`` handles signals before torch is imported."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from inference.restorer import Restorer

    return Restorer
