"""Restore images of any size and format: ``Restorer("best.pt").restore("photo.jpg")``."""

from inference.restorer import Restorer

__all__ = ["Restorer"]
