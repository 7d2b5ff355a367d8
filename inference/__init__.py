"""Restoring images of any size and kind: ``Restorer("best.pt").restore("photo.jpg")``."""

from inference.restorer import Restorer

__all__ = ["Restorer"]
