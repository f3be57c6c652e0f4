"""The version of this package, as it was installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("sse-fast")
except PackageNotFoundError:  # run from a source tree that was never installed
    VERSION = "unknown"
