"""Estimators with a ready-made model."""
