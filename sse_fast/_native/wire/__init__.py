"""The wire format: fields -> bytes, and back."""
