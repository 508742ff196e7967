"""Directories on every store."""
