"""What is not run as it stands, and why; what is started is said in `reader.py`.

The first word is a page or `*`, the second what the block's first line, or a command, begins with.
"""

EXCUSED: dict[tuple[str, str], str] = {
    ("*", "pip wheel"): "done once for `--fresh`; tests/test_distributions.py builds the wheels, too",
    ("*", "uv add"): "the tab beside it does the same with pip",
    ("index", "LLM -> TTS"): "a picture",
    ("README: Try it: no key, no account", "make "): "this repository's own checks, which CI runs",
    ("integrations/pipecat", "python examples/pipecat_smallwebrtc.py"): "the tutorial starts it as bot.py",
    ("tutorials/langchain-voice", '"""A LangChain voice agent with a face'): "the program that step 1 starts",
    ("tutorials/pipecat", "python your_bot.py"): "the reader's own bot",
    ("how-to/cli", "agenthuman sessions reap --owner"): "names a container of the reader's",
    ("how-to/cli", "agenthuman demo --record"): "as in the README, in the time of a clip",
    ("how-to/cli", "$ agenthuman doctor"): "shows an account with something to fix",
    ("how-to/cli", "$ agenthuman sessions reap"): "shows an account with a session left open",
    (
        "how-to/get-a-key",
        "$ agenthuman avatars upload",
    ): "the emulator that the page starts is on the free plan",
    (
        "how-to/langchain-limits",
        "Note: session",
    ): "what a model reads; tests/langchain/test_pages.py compares it",
    ("how-to/langchain-server", "langgraph dev"): "needs langgraph-cli; tests/langchain/server runs it",
    ("how-to/langchain-server", "$ curl "): "as above",
    ("how-to/troubleshooting", "AGENTHUMAN_LOG=debug python my_program.py"): "the reader's own program",
    ("how-to/logging", "AGENTHUMAN_LOG=debug python my_program.py"): "the reader's own program",
    ("how-to/pipecat-deployment", '"""A bot with a face for a container'): "tests/test_deployment.py runs it",
    ("how-to/pipecat-deployment", "docker "): "needs Docker and a room of Daily's",
    ("how-to/pipecat-cloud", "pipecat cloud"): "needs an account of Pipecat Cloud",
    ("how-to/pipecat-deployment", "pipeline = Pipeline([...])"): "runs until a StopFrame; tests/pipecat does",
    ("how-to/pipecat-deployment", "*/5 "): "a line of a crontab",
    ("how-to/pipecat-deployment", "agenthuman sessions reap --owner"): "names a container of the reader's",
    ("how-to/pipecat-direct", "livekit-server --dev"): "installed by hand, and listens on a fixed port",
    ("how-to/pipecat-direct", "python examples/pipecat_livekit.py"): "tests/pipecat/test_examples.py runs it",
    ("how-to/pipecat-migration", "# before"): "the first half is the vendor's code",
    (
        "how-to/pipecat-realtime",
        "python examples/pipecat_realtime.py",
    ): "tests/pipecat/test_examples.py runs it",
}
