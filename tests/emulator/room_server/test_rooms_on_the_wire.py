"""What real LiveKit clients see, on the embedded server and on a real one alike."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from livekit import rtc

from agenthuman_plugins.emulator.rooms import RoomServer
from tests.emulator.room_server.clients import TIMEOUT_S, WIDTH, Client, loud_samples, picture
from tests.emulator.room_server.conftest import Join

pytestmark = [pytest.mark.chain, pytest.mark.asyncio(loop_scope="package")]

AUDIO, VIDEO = rtc.TrackKind.KIND_AUDIO, rtc.TrackKind.KIND_VIDEO


# In and out.


async def test_token_of_another_key_is_refused(room_server: RoomServer, room_name: str) -> None:
    """A token signed with another secret gets nobody in; our error does not repeat it (LiveKit's does)."""
    stranger = RoomServer(room_server.url, "url", api_key=room_server._api_key, api_secret="x" * 32)
    token = stranger.mint(room=room_name, identity="a")
    with pytest.raises(rtc.ConnectError) as caught:
        await rtc.Room().connect(room_server.url, token)
    assert "401" in caught.value.message
    assert room_server.kind == "livekit-server" or token not in caught.value.message


async def test_expired_token_is_refused(room_server: RoomServer, room_name: str) -> None:
    """A token that has run out gets nobody in."""
    token = room_server.mint(room=room_name, identity="a", ttl_s=-600)
    with pytest.raises(rtc.ConnectError, match="401"):
        await rtc.Room().connect(room_server.url, token)


async def test_participants_see_each_other_come_and_go(join: Join) -> None:
    """Those in the room hear of a newcomer, that it is active, and that it left; the newcomer knows them."""
    first = await join("first")
    second = await join("second", name="Second", kind="agent")
    await second.publish_audio()  # a real server tells at once of those who publish; else every 3 s
    assert list(second.room.remote_participants) == ["first"]
    (seen,) = await first.event("participant_connected")
    assert (seen.identity, seen.name, seen.kind) == (
        "second",
        "Second",
        rtc.ParticipantKind.PARTICIPANT_KIND_AGENT,
    )
    await first.event("participant_active", lambda participant: participant.identity == "second")
    await second.aclose()
    (gone,) = await first.event("participant_disconnected")
    assert gone.identity == "second"


async def test_deleting_a_room_sends_everybody_away(
    room_server: RoomServer, room_name: str, join: Join
) -> None:
    """Whoever was in the room is told why; only a token that may create rooms deletes one."""
    clients = [await join("first"), await join("second")]
    url = f"{room_server.url.replace('ws', 'http', 1)}/twirp/livekit.RoomService/DeleteRoom"
    async with httpx.AsyncClient(trust_env=False) as http:
        for grants, status in (({}, 401), ({"roomCreate": True}, 200)):
            token = room_server.mint(room=room_name, identity="admin", grants=grants)
            headers = {"Authorization": f"Bearer {token}"}
            answer = await http.post(url, json={"room": room_name}, headers=headers, timeout=TIMEOUT_S)
            assert answer.status_code == status
    for client in clients:
        (reason,) = await client.event("disconnected")
        assert reason == rtc.DisconnectReason.ROOM_DELETED


async def test_second_join_under_one_identity_evicts_the_first(join: Join) -> None:
    """The older participant is told why it has to go, and the newer one works."""
    witness = await join("witness")
    old = await join("double")
    new = await join("double")
    (reason,) = await old.event("disconnected")
    assert reason == rtc.DisconnectReason.DUPLICATE_IDENTITY
    await new.me.publish_data(b"still here", destination_identities=["witness"])
    (packet,) = await witness.event("data_received")
    assert packet.data == b"still here"


async def test_rooms_are_apart(join: Join, room_server: RoomServer, room_name: str) -> None:
    """Participants of one room do not see those of another."""
    await join("inside")
    elsewhere = Client()
    await elsewhere.room.connect(room_server.url, room_server.mint(room=f"{room_name}-2", identity="outside"))
    assert not elsewhere.room.remote_participants
    await elsewhere.aclose()


# Attributes and data.


async def test_attributes_of_the_token_and_later_ones_are_seen(join: Join) -> None:
    """Attributes come with the token, can be changed, and are removed when set to nothing."""
    witness = await join("witness")
    avatar = await join("avatar", attributes={"lk.publish_on_behalf": "agent", "mood": "calm"})
    await avatar.publish_audio()  # a real server tells at once of those who publish; else every 3 s
    (seen,) = await witness.event("participant_connected")
    assert seen.attributes == {"lk.publish_on_behalf": "agent", "mood": "calm"}
    await avatar.me.set_attributes({"mood": "", "pose": "still"})
    await witness.event("participant_attributes_changed", lambda changed, _: changed.get("pose") == "still")
    assert seen.attributes == {"lk.publish_on_behalf": "agent", "pose": "still"}


@pytest.mark.parametrize("reliable", [True, False], ids=["reliable", "lossy"])
async def test_data_reaches_those_it_is_addressed_to(join: Join, reliable: bool) -> None:
    """Addressed data reaches its addressee alone; unaddressed data everybody but the sender."""
    sender, one, other = await join("sender"), await join("one"), await join("other")
    await _in_sight(sender, one, other)
    payload = json.dumps({"state": "connected"}).encode()
    await sender.me.publish_data(
        payload, reliable=reliable, destination_identities=["one"], topic="session.state"
    )
    await sender.me.publish_data(b"to all", reliable=reliable)
    for client in (one, other):
        (packet,) = await client.event("data_received", lambda packet: packet.data == b"to all")
        assert packet.kind == (
            rtc.DataPacketKind.KIND_RELIABLE if reliable else rtc.DataPacketKind.KIND_LOSSY
        )
    (packet,) = await one.event("data_received", lambda packet: packet.topic == "session.state")
    assert packet.data == payload
    assert [packet.data for (packet,) in other.seen("data_received")] == [b"to all"]
    assert not sender.seen("data_received")


async def test_byte_stream_arrives_whole_and_in_order(join: Join) -> None:
    """Speech of 50 blocks of 640 bytes arrives byte by byte, with its attributes, and its end is seen."""
    agent, avatar = await join("agent"), await join("avatar")
    received: asyncio.Queue[tuple[Any, str]] = asyncio.Queue()
    avatar.room.register_byte_stream_handler(
        "lk.audio_stream", lambda *arguments: received.put_nowait(arguments)
    )
    await _in_sight(agent, avatar)
    blocks = [bytes([number]) * 640 for number in range(50)]
    writer = await agent.me.stream_bytes(
        "AUDIO_1",
        topic="lk.audio_stream",
        destination_identities=["avatar"],
        attributes={"sample_rate": "16000", "num_channels": "1"},
    )
    for block in blocks:
        await writer.write(block)
    await writer.aclose()
    async with asyncio.timeout(TIMEOUT_S):
        reader, identity = await received.get()
        content = b"".join([chunk async for chunk in reader])
    assert identity == "agent"
    assert reader.info.attributes == {"sample_rate": "16000", "num_channels": "1"}
    assert content == b"".join(blocks)


async def test_rpc_is_answered(join: Join) -> None:
    """A method call reaches its callee and its answer the caller, both ways, also with long payloads."""
    one, two = await join("one"), await join("two")

    async def echo(invocation: rtc.RpcInvocationData) -> str:
        return f"{invocation.caller_identity}: {invocation.payload}"

    for client in (one, two):
        client.me.register_rpc_method("echo", echo)
    await _in_sight(one, two)
    await _in_sight(two, one)
    async with asyncio.timeout(TIMEOUT_S):
        for caller, callee, payload in [(one, "two", ""), (two, "one", "x" * 10_000)]:
            answer = await caller.me.perform_rpc(destination_identity=callee, method="echo", payload=payload)
            assert answer == f"{caller.me.identity}: {payload}"


async def test_unknown_rpc_method_is_an_error_of_its_own(join: Join) -> None:
    """A method that nobody registered is refused at once with its code."""
    one, two = await join("one"), await join("two")
    await _in_sight(one, two)
    async with asyncio.timeout(TIMEOUT_S):
        with pytest.raises(rtc.RpcError) as caught:
            await one.me.perform_rpc(destination_identity="two", method="nothing", payload="")
    assert caught.value.code == rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD


async def test_rpc_to_an_absent_participant_fails(join: Join) -> None:
    """A call to nobody ends by itself with the code of a time-out."""
    one = await join("one")
    async with asyncio.timeout(TIMEOUT_S):
        with pytest.raises(rtc.RpcError) as caught:
            await one.me.perform_rpc(destination_identity="nobody", method="echo", payload="")
    assert caught.value.code in (
        rtc.RpcError.ErrorCode.CONNECTION_TIMEOUT,
        rtc.RpcError.ErrorCode.RECIPIENT_NOT_FOUND,
    )


# Media.


@pytest.mark.media
async def test_tracks_reach_a_subscriber_that_waits(join: Join) -> None:
    """Audio and video published into a running room arrive, and the publisher hears of its subscriber."""
    viewer, avatar = await join("viewer"), await join("avatar")
    video = await avatar.publish_video(grey=200)
    audio = await avatar.publish_audio()
    await picture(await viewer.subscribed(VIDEO), grey=200, width=WIDTH)
    assert await loud_samples(await viewer.subscribed(AUDIO), 8_000)
    async with asyncio.timeout(TIMEOUT_S):
        await video.wait_for_subscription()
        await audio.wait_for_subscription()
    publications = viewer.room.remote_participants["avatar"].track_publications
    assert publications.keys() == {video.sid, audio.sid}
    assert publications[video.sid].source == rtc.TrackSource.SOURCE_CAMERA


@pytest.mark.media
async def test_tracks_reach_a_subscriber_that_comes_late(join: Join) -> None:
    """Who joins while tracks are live gets them, starting with a whole picture."""
    avatar = await join("avatar")
    await avatar.publish_video(grey=60)
    await avatar.publish_audio()
    viewer = await join("viewer")
    await picture(await viewer.subscribed(VIDEO), grey=60, width=WIDTH)
    assert await loud_samples(await viewer.subscribed(AUDIO), 1_600)


@pytest.mark.media
async def test_tracks_of_several_publishers_reach_each_other(join: Join) -> None:
    """More tracks than the first offer has room for: five clients each see the four others."""
    clients = [await join(f"p{number}") for number in range(5)]
    greys = {f"v{number}": 40 * number + 40 for number in range(5)}
    for client, (name, grey) in zip(clients, greys.items(), strict=True):
        await client.publish_video(grey=grey, name=name, width=160, height=120)
    for number, client in enumerate(clients):
        for name, grey in greys.items():
            if name != f"v{number}":
                await picture(await client.subscribed(VIDEO, name), grey=grey)


@pytest.mark.media
async def test_muted_track_is_seen_as_muted(join: Join) -> None:
    """A publisher's mute is known to its subscribers."""
    viewer, avatar = await join("viewer"), await join("avatar")
    publication = await avatar.publish_audio()
    await viewer.subscribed(AUDIO)
    publication.track.mute()
    _, muted = await viewer.event("track_muted")
    assert muted.sid == publication.sid


@pytest.mark.media
@pytest.mark.parametrize("simulcast", [False, True], ids=["plain", "simulcast"])
async def test_track_published_again_is_seen_again(join: Join, simulcast: bool) -> None:
    """Three publications in a row: each one's picture arrives in full size, each one's end is heard of."""
    viewer, avatar = await join("viewer"), await join("avatar")
    for grey in (40, 110, 180):
        viewer.forget()
        publication = await avatar.publish_video(grey=grey, simulcast=simulcast)
        await picture(await viewer.subscribed(VIDEO), grey=grey, width=WIDTH)
        await avatar.me.unpublish_track(publication.sid)
        await viewer.event("track_unsubscribed")
        await viewer.event("track_unpublished", lambda gone, _, sid=publication.sid: gone.sid == sid)


@pytest.mark.media
async def test_two_simulcast_tracks_at_once_are_told_apart(join: Join) -> None:
    """Two simulcast videos of one participant arrive as what they are."""
    viewer, avatar = await join("viewer"), await join("avatar")
    for grey, name in ((70, "dark"), (180, "bright")):
        await avatar.publish_video(grey=grey, name=name, simulcast=True)
    for grey, name in ((70, "dark"), (180, "bright")):
        await picture(await viewer.subscribed(VIDEO, name), grey=grey)


@pytest.mark.media
async def test_subscriptions_follow_the_subscriber(join: Join) -> None:
    """Without auto-subscription nothing arrives until it is asked for, nothing after, and again on demand."""
    viewer, avatar = await join("viewer", auto_subscribe=False), await join("avatar")
    sid = (await avatar.publish_video(grey=100)).sid
    published, _ = await viewer.event("track_published")
    assert published.sid == sid
    assert not viewer.seen("track_subscribed")
    for number in range(3):
        viewer.forget()
        published.set_subscribed(True)
        await picture(await viewer.subscribed(VIDEO), grey=100)
        published.set_subscribed(False)
        await viewer.event("track_unsubscribed")
        # The client tells this by itself. A real server that hears of both wishes at once sees no change, and sends
        # no track again: the answer to a later request shows that it has heard the first.
        await viewer.me.set_attributes({"round": str(number)})


# Trouble.


@pytest.mark.media
@pytest.mark.parametrize(
    "scenario",
    [rtc.SimulateScenarioKind.SIMULATE_SIGNAL_RECONNECT, rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT],
    ids=["signal", "full"],
)
async def test_reconnection_brings_everything_back(join: Join, scenario: int) -> None:
    """After a lost WebSocket, on either side, picture and data flow again."""

    async def lose(who: str) -> None:  # a real server takes 3 s for some, so both sides are tried at a time
        avatar, viewer = await join(f"avatar {who}"), await join(f"viewer {who}")
        loser = {"avatar": avatar, "viewer": viewer}[who]
        await avatar.publish_video(grey=120, name=who)
        await picture(await viewer.subscribed(VIDEO, who), grey=120)
        async with asyncio.timeout(TIMEOUT_S):
            await loser.room.simulate_scenario(scenario)
        await loser.event("reconnected")
        await picture(await _video_of(viewer, avatar.me.identity), grey=120)
        await avatar.me.publish_data(b"again", destination_identities=[viewer.me.identity])
        await viewer.event("data_received", lambda packet: packet.data == b"again")

    await asyncio.gather(lose("avatar"), lose("viewer"))


# Permissions.


async def test_publishing_needs_the_grant(join: Join) -> None:
    """Without canPublish a track does not get into the room."""
    witness, other = await join("witness"), await join("other")
    listener = await join("listener", grants={"canPublish": False})
    asking = asyncio.create_task(listener.publish_video(name="refused"))  # clients do not look at the refusal
    for name in ("first", "second"):  # asked for after it, and so in the room after it
        await other.publish_video(name=name)
        await witness.event("track_published", lambda seen, _, name=name: seen.name == name)
    assert not asking.done()
    assert [seen.name for seen, _ in witness.seen("track_published")] == ["first", "second"]
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


@pytest.mark.media
async def test_subscribing_needs_the_grant(join: Join) -> None:
    """Without canSubscribe no track is received, whoever else gets it."""
    blind = await join("blind", grants={"canSubscribe": False})
    viewer, avatar = await join("viewer"), await join("avatar")
    await avatar.publish_video(grey=100)
    await picture(await viewer.subscribed(VIDEO), grey=100)
    assert not blind.seen("track_subscribed")


async def test_sending_data_needs_the_grant(join: Join) -> None:
    """Without canPublishData nobody receives what was sent."""
    witness, other = await join("witness"), await join("other")
    mute = await join("mute", grants={"canPublishData": False})
    await _in_sight(mute, witness)
    await _in_sight(other, witness, mute)
    await mute.me.publish_data(b"forbidden")
    await mute.me.set_attributes({"sent": "yes"})
    await other.event("participant_attributes_changed", lambda changed, _: "sent" in changed)
    await other.me.publish_data(b"allowed")
    await witness.event("data_received", lambda packet: packet.data == b"allowed")
    assert [packet.data for (packet,) in witness.seen("data_received")] == [b"allowed"]


async def test_changing_attributes_needs_the_grant(join: Join) -> None:
    """Without canUpdateOwnMetadata attributes stay as the token set them."""
    witness = await join("witness")
    fixed = await join("fixed", attributes={"mood": "calm"}, grants={"canUpdateOwnMetadata": False})
    # It may not change, so a real server would tell of it late; see `_in_sight`.
    await fixed.publish_audio()
    await _in_sight(witness, fixed)
    await _in_sight(fixed, witness)
    await fixed.me.set_attributes({"mood": "wild"})
    await fixed.me.publish_data(b"after it")
    await witness.event("data_received")
    assert witness.room.remote_participants["fixed"].attributes == {"mood": "calm"}


async def test_client_with_two_connections_is_told_what_to_do(join: Join, room_server: RoomServer) -> None:
    """The embedded server refuses older clients with a sentence; a real one takes them."""
    if room_server.kind == "livekit-server":
        await join("old", single_peer_connection=False)
        return
    with pytest.raises(rtc.ConnectError) as caught:
        await join("old", single_peer_connection=False)
    assert "use livekit >= 1.1.15" in caught.value.message


async def _in_sight(client: Client, *others: Client) -> None:
    """Wait until a client knows that others are active: data sent earlier may be lost.

    Of those who publish nothing a real server tells when they change; else every 3 s.
    """
    for other in others:
        participant = client.room.remote_participants.get(other.me.identity)
        if participant is None or participant.state != rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE:
            await other.me.set_attributes({"here": "yes"})
            await client.event(
                "participant_active", lambda active, wanted=other: active.identity == wanted.me.identity
            )


async def _video_of(client: Client, identity: str) -> rtc.RemoteTrack:
    """The video that a client receives from a participant now."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            participant = client.room.remote_participants.get(identity)
            for publication in participant.track_publications.values() if participant else ():
                if publication.kind == VIDEO and publication.track is not None:
                    return publication.track
            client.forget()
            await client.event("track_subscribed")
