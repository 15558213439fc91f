"""PCACE: which channels of a convolutional layer matter for a class, and how sure are we?"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("pcace")
except PackageNotFoundError:  # a bare checkout on the path, never installed
    __version__ = "0+unknown"
