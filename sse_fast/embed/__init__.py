"""For apps of your own: the hub, responses, writers, filters."""
