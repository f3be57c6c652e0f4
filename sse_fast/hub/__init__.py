"""One worker's log and subscribers: publish, subscribe, replay, drain. Knows no HTTP."""
