"""The companion library of Session 4: a 17,498-parameter network that reads handwritten digits."""

__version__ = "1.0.0"
