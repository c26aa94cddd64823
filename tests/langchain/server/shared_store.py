"""A checkpointer for a LangGraph server whose content other servers share, in place of the one in its memory."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver


@asynccontextmanager
async def saver() -> AsyncIterator[AsyncSqliteSaver]:
    async with AsyncSqliteSaver.from_conn_string(os.environ["SHARED_STORE"]) as saver:
        yield saver
