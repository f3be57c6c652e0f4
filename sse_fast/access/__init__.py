"""Who may do what, and how much: limits on streams, publish keys, origins of pages, trusted proxies. No I/O."""
