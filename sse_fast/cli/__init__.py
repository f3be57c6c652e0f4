"""The command line: `sse-fast serve | publish | listen | bench`."""
