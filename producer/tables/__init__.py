"""Inputs as tables: every format's rows in chunks of texts, ids and kept columns."""
