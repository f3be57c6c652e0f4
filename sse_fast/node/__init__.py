"""A machine's server with all its workers: how it starts, what they share, how it restarts and ends."""
