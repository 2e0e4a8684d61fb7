"""Data only: one manifest a model, shared profiles in sets/, golden vectors in golden/; see README.md."""
