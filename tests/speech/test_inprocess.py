import array
import asyncio

import pytest

from agenthuman_plugins.client.errors import SpeechLinkError
from agenthuman_plugins.speech import (
    AvatarConnected,
    AvatarDisconnected,
    InProcessSpeechLink,
    LinkLost,
    PlaybackFinished,
    PlaybackStarted,
)

BLOCK = 640 * 2  # bytes of 40 ms
LOUD = array.array("h", [10_000, -10_000] * 320).tobytes()  # one block


async def connected(**options) -> InProcessSpeechLink:
    link = InProcessSpeechLink(paced=False, **options)
    await link.connect(timeout_s=5)
    return link


async def play(link: InProcessSpeechLink, seconds: float) -> None:
    for _ in range(round(seconds * 25)):
        await link.step()


async def events_until_closed(link: InProcessSpeechLink) -> list:
    await link.aclose()
    return [event async for event in link.events()]


async def test_speech_comes_back_whole_and_in_order():
    """What is sent is heard, sample by sample, and silence around it."""
    link = await connected()
    await link.step()
    assert await link.send(LOUD[:700]) == 1
    assert await link.send(LOUD[700:] + LOUD[:100]) == 1
    await link.end_utterance()
    await play(link, 0.12)
    await link.aclose()
    heard = b"".join([block.pcm async for block in link.audio()])
    assert heard == bytes(BLOCK) + LOUD + LOUD[:100].ljust(BLOCK, b"\0") + bytes(BLOCK)


async def test_playback_is_reported_in_order():
    """Each utterance is started and finished once, with its whole length as position."""
    link = await connected()
    for _ in range(2):
        await link.send(LOUD * 3)
        await link.end_utterance()
    await play(link, 1)
    assert await events_until_closed(link) == [
        AvatarConnected(),
        PlaybackStarted(1),
        PlaybackFinished(1, 0.12, interrupted=False),
        PlaybackStarted(2),
        PlaybackFinished(2, 0.12, interrupted=False),
    ]


async def test_interruption_silences_at_once():
    """After an interruption nothing of the old speech is heard, and its position is what was played."""
    link = await connected()
    await link.send(LOUD * 50)
    await play(link, 0.2)
    await link.interrupt()
    assert await link.send(LOUD) == 2
    await link.interrupt()  # before a sample of it was heard
    await play(link, 0.2)
    await link.aclose()
    blocks = [block.pcm async for block in link.audio()]
    assert [any(block) for block in blocks] == [True] * 5 + [False] * 5
    finished = [event async for event in link.events() if isinstance(event, PlaybackFinished)]
    assert [(event.utterance, event.position_s, event.interrupted) for event in finished] == [
        (1, pytest.approx(0.2), True),
        (2, 0.0, True),
    ]


async def test_interruption_of_nothing_does_nothing():
    """Without speech in flight there is no event."""
    link = await connected()
    await link.interrupt()
    assert await events_until_closed(link) == [AvatarConnected()]


async def test_picture_follows_the_sound():
    """Every block has its own picture, drawn from its sound."""
    drawn = []

    def draw(pcm: bytes, t_s: float) -> bytes:
        drawn.append((any(pcm), round(t_s, 3)))
        return bytes(2 * 2 * 3)

    link = await connected(draw=draw, width=2, height=2)
    await link.step()
    await link.send(LOUD)
    await play(link, 0.08)
    assert drawn == [(False, 0.0), (True, 0.04), (False, 0.08)]
    picture = await anext(link.video())
    assert (picture.width, picture.height, picture.timestamp_us) == (2, 2, 80_000)


async def test_plain_picture_is_brighter_with_sound():
    """Without a drawing the brightness shows the sound."""
    link = await connected(width=4, height=2)
    await link.step()
    quiet = (await anext(link.video())).rgb
    await link.send(LOUD)
    await link.step()
    loud = (await anext(link.video())).rgb
    assert len(quiet) == len(loud) == 4 * 2 * 3
    assert loud[0] > quiet[0]


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
async def test_voice_comes_at_the_rate_asked_for(rate):
    """A ramp stays a ramp at any rate, over the borders of blocks too."""
    link = await connected(audio_sample_rate=rate)
    await link.send(array.array("h", range(1280)).tobytes())
    await play(link, 0.08)
    await link.aclose()
    blocks = [block async for block in link.audio()]
    assert {(block.sample_rate, block.num_channels, len(block.pcm)) for block in blocks} == {
        (rate, 1, rate // 25 * 2)
    }
    samples = array.array("h", b"".join(block.pcm for block in blocks))
    ratio = 16_000 / rate
    assert all(abs(sample - max(0, i * ratio - (rate != 16_000))) <= 1 for i, sample in enumerate(samples))


async def test_impossible_rate_is_refused():
    """A block is a whole number of samples."""
    with pytest.raises(ValueError, match="whole number of samples"):
        InProcessSpeechLink(audio_sample_rate=11_025, fps=30)


@pytest.mark.parametrize("reports", [0, 1, 2])
async def test_one_end_however_often_it_is_reported(reports):
    """Never, once or twice: each utterance gives one end; without a report it is an estimate."""
    link = await connected(reports_per_utterance=reports)
    for _ in range(2):
        await link.send(LOUD * 25)
        await link.end_utterance()
    await play(link, 5)
    finished = [e for e in await events_until_closed(link) if isinstance(e, PlaybackFinished)]
    assert [(e.utterance, e.estimated) for e in finished] == [(1, reports == 0), (2, reports == 0)]
    assert [e.position_s for e in finished] == [pytest.approx(1.0)] * 2


async def test_late_report_is_awaited():
    """A report within the margin is taken; the playback is not over before it."""
    link = await connected(report_delay_s=1.0)
    await link.send(LOUD * 25)
    await link.end_utterance()
    await play(link, 1.5)
    assert not await link.wait_playback(timeout_s=0)
    await play(link, 0.6)
    assert await link.wait_playback(timeout_s=0)


async def test_interruption_that_nobody_reports_ends_by_the_clock():
    """A clear without a report is over soon after its answer."""
    link = await connected(reports_per_utterance=0)
    await link.send(LOUD * 50)
    await play(link, 0.4)
    interruption = asyncio.create_task(link.interrupt())
    await asyncio.sleep(0)  # its turn
    await play(link, 0.12)
    assert not interruption.done()
    await play(link, 0.08)
    await asyncio.wait_for(interruption, timeout=5)
    (finished,) = [e for e in await events_until_closed(link) if isinstance(e, PlaybackFinished)]
    assert finished == PlaybackFinished(1, pytest.approx(0.4), interrupted=True, estimated=True)


async def test_avatar_that_leaves_and_comes_back():
    """Speech in flight is over, sending fails until the avatar is back, and the streams go on."""
    link = await connected()
    await link.send(LOUD * 50)
    await play(link, 0.2)
    link.disappear("gone")
    with pytest.raises(SpeechLinkError) as caught:
        await link.send(LOUD)
    assert caught.value.retryable
    link.appear()
    assert await link.send(LOUD) == 2
    await link.end_utterance()
    await play(link, 0.2)
    assert await events_until_closed(link) == [
        AvatarConnected(),
        PlaybackStarted(1),
        PlaybackFinished(1, pytest.approx(0.2), interrupted=False, estimated=True),
        AvatarDisconnected("gone"),
        AvatarConnected(),
        PlaybackStarted(2),
        PlaybackFinished(2, pytest.approx(0.04), interrupted=False),
    ]


async def test_crash_ends_everything():
    """A lost link finishes its speech, says so last, and ends all streams."""
    link = await connected()
    await link.send(LOUD)
    link.crash("cut")
    assert [event async for event in link.events()] == [
        AvatarConnected(),
        PlaybackFinished(1, 0.0, interrupted=False, estimated=True),
        LinkLost("cut"),
    ]
    assert [item async for item in link.audio()] == [item async for item in link.video()] == []
    with pytest.raises(SpeechLinkError, match="cut"):
        await link.send(LOUD)
    await link.aclose()


async def test_avatar_without_a_voice_delivers_no_audio():
    """Its playback is reported all the same."""
    link = await connected(voice=False)
    await link.send(LOUD)
    await link.end_utterance()
    await link.step()
    await link.aclose()
    assert [block async for block in link.audio()] == []


async def test_avatar_that_takes_too_long():
    """A connect that fails says so in one sentence and leaves nothing running."""
    waits = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    link = InProcessSpeechLink(connect_delay_s=60, sleep=sleep)
    with pytest.raises(SpeechLinkError, match=r"did not appear within 5 s\.$"):
        await link.connect(timeout_s=5)
    assert waits == [5]
    assert [event async for event in link.events()] == []


async def test_blocks_are_paced_on_an_absolute_schedule():
    """A block that comes late is not added to the waits of the next ones."""
    now = 0.0
    schedule = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if seconds:
            schedule.append(round(now, 6))
        if seconds and len(schedule) == 2:
            now += 0.1  # something blocks
        await asyncio.sleep(0)

    link = InProcessSpeechLink(clock=lambda: now, sleep=sleep)
    await link.connect(timeout_s=5)
    async with asyncio.timeout(5):
        for _ in range(10):
            await anext(link.audio())
    await link.aclose()
    assert schedule[:5] == [0.04, 0.08, 0.2, 0.24, 0.28]


async def test_drawing_that_fails_loses_the_link():
    """An avatar that stands still is reported, never left standing."""

    def draw(pcm: bytes, t_s: float) -> bytes:
        raise ZeroDivisionError("no brush")

    link = InProcessSpeechLink(draw=draw)
    await link.connect(timeout_s=5)
    async with asyncio.timeout(5):
        events = [event async for event in link.events()]
    assert events[-1] == LinkLost("The avatar failed: ZeroDivisionError('no brush')")
    await link.aclose()


async def test_close_is_harmless_at_any_time():
    """Never connected, connected, closed twice."""
    link = InProcessSpeechLink()
    await link.aclose()
    await link.aclose()
    with pytest.raises(SpeechLinkError):
        await link.send(LOUD)
