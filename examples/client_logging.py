"""See what the client does: its log beside yours, both with the service's request ids.

python examples/client_logging.py                         on a local emulator; needs no key
AGENTHUMAN_API_KEY=... python examples/client_logging.py  on the real service; opens no session
"""

import asyncio
import logging
import os

from agenthuman_plugins import AgentHumanError, AsyncAgentHuman

log = logging.getLogger("my_app")


def set_up_logging() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("my_app").setLevel(logging.INFO)
    logging.getLogger("agenthuman_plugins").setLevel(logging.DEBUG)


async def work(client: AsyncAgentHuman) -> None:
    usage = await client.usage.get()
    log.info("%s minutes left (request %s)", usage.total_remaining, usage.request_id)
    try:
        await client.sessions.get("sess_of_somebody_else")
    except AgentHumanError as error:
        log.warning("No session: %s", error)


async def main() -> None:
    set_up_logging()
    if os.environ.get("AGENTHUMAN_API_KEY"):
        async with AsyncAgentHuman() as client:
            await work(client)
        return

    from agenthuman_plugins.emulator import Emulator  # noqa: PLC0415 - only needed without a key

    async with (
        Emulator(media=False) as emulator,
        AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
    ):
        emulator.fail("status", status=503, path="/v1/usage", headers={"x-request-id": "req_7f3a"})
        await work(client)


if __name__ == "__main__":
    asyncio.run(main())
