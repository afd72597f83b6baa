"""Data from files of any format: documents and records, and from those tokens."""
