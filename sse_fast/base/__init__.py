"""What every room may use of the operating system: addresses, descriptors, locks, listening sockets, signals."""
