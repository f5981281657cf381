"""Freehold: run, serve, tune, prove and share open-weight language models on your own machine."""

__version__ = "0.1.0"
