"""The numbers: principal components and ACE. NumPy and friends alone: no torch, no paths, no config."""
