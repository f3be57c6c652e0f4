"""The log, and where each channel's events are in it."""
