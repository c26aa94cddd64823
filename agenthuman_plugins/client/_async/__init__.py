"""The async client and its resources: what is written, and what the sync ones are generated from."""
