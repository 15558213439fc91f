"""PCACE: which channels of a convolutional layer matter for a class, and how reliable is the answer?"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("pcace")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
