"""What a request means: its head, a value, becomes a decision, another value. No I/O."""
