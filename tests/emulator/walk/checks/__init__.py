"""One module a table of `facts.toml`, one function a fact; see `tests.emulator.walk.walk.check`."""
