# Generated from _async/__init__.py by `make generate`. Do not edit.
"""The async client and its resources: what is written, and what the sync ones are generated from."""
