"""What Linux offers: clocks, atomics, sockets; queues that need no memory."""
