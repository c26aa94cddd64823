"""The avatar worker: a process that joins a room as the avatar, takes speech and shows a talking face.

Run it with `Child.start("agenthuman_plugins.emulator.worker", settings)`; `_settings.py` lists the settings,
`_avatar.py` the events and messages. `_loop.py` is the avatar without a network.
"""
