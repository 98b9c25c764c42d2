"""The version of the package, in a file of its own so that the build imports nothing."""

__version__ = "0.2.0"
