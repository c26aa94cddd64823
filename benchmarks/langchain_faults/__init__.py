"""Our tools beside other LangChain tools on the same faults: `python -m benchmarks langchain`.

Each cell of the table is one agent run: a scripted model calls one tool once while one thing goes wrong at a local
HTTP service. `expected.json` was committed before the first run. The tools run in `.venv-langchain-peers`, where
`_report`, which starts them, is not imported.
"""
