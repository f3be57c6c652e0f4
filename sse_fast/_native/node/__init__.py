"""What the workers of a node say of themselves, in memory that all share."""
