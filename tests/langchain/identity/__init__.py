"""Whose session is it? Owners, ways of calling tools, and operations, each with each: `python -m tests.langchain.identity`."""
