"""One module a table of `facts.toml`, one function a fact, whose row says the rule; see `walk.check`."""
