"""A set as local pages: its classes, its images by byte range, the row behind each, and the image drawn again."""

from caskit.evaluate.view.browser import Browser
from caskit.evaluate.view.server import Redrawn, serve

__all__ = ["Browser", "Redrawn", "serve"]
