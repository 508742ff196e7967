"""Hooks: those of every training, and those that users add."""
