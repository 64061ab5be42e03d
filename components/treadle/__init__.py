"""Treadle takes a table and keeps a good model of it in production."""

from importlib.metadata import version

__version__ = version("treadle")
