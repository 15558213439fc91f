"""The pictures: one kind a file, each a function from plain arrays to a matplotlib `Figure`."""
