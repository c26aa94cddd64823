"""Make an avatar of a picture with one face, and share a voice agent that wears it.

python examples/avatars.py me.jpg                         on a local emulator; needs no key
AGENTHUMAN_API_KEY=... python examples/avatars.py me.jpg  on the real service, where avatars count against the plan
"""

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta

from agenthuman_plugins import AgentHumanError, AsyncAgentHuman


def show(sent: int, total: int) -> None:
    print(f"\rUploaded {sent / total:.0%}", end="\n" if sent == total else "", flush=True)


async def tour(client: AsyncAgentHuman, picture: str) -> None:
    usage = await client.usage.get()
    if usage.plan is not None:
        print(f"Plan {usage.plan.name}, {usage.total_remaining:.0f} minutes left.")

    # Size and type are checked before anything is sent; whether there is one face, the service decides.
    avatar = await client.avatars.upload_face(picture, on_progress=show)
    print(f"Made {avatar.avatar_id}; sessions.create(avatar=...) takes it.")
    own = (await client.avatars.list()).my_avatars
    print(f"Avatars of your own: {', '.join(each.avatar_id for each in own)}.")

    agent = await client.agents.create(
        name="Support",
        voice_agent={"provider": "ElevenLabs", "agent_id": "el_agent_1", "auth_method": "public"},
        avatar_image_url=avatar.image_url,
    )
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    link = await client.links.create(agent_id=agent.agent_id, expires_at=tomorrow, use_limit=5)
    print(f"Whoever opens {link.url} talks to it, at your cost.")

    # Nobody opened it, so nothing is left behind.
    await client.links.delete(link.link_id)
    await client.agents.delete(agent.agent_id)
    await client.avatars.delete(avatar.avatar_id)


async def run(picture: str) -> None:
    if os.environ.get("AGENTHUMAN_API_KEY"):
        async with AsyncAgentHuman() as client:
            await tour(client, picture)
        return

    from agenthuman_plugins.emulator import Emulator  # noqa: PLC0415 - only needed without a key

    # The free plan includes no avatars of one's own.
    async with (
        Emulator(plan="explorer", media=False) as emulator,
        AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
    ):
        await tour(client, picture)


def main() -> None:
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and one picture
        sys.exit("Usage: python examples/avatars.py PICTURE")
    try:
        asyncio.run(run(sys.argv[1]))
    except AgentHumanError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
