"""An engine behind several nodes: it holds the log, and each node's is a window on it."""
