"""The embedded room server: enough of LiveKit for the emulator, on nothing but pip packages.

It runs in a process of its own (`python -m agenthuman_plugins.emulator.room_server`, started through
`agenthuman_plugins.emulator.rooms.RoomServer`), because it adjusts aiortc for the whole process.

    _signalling   HTTP and WebSocket: who may come in, what a client asks
    _token        what an access token allows
    _room         who is in a room, what is published, who gets it
    _peer         one client's peer connection: offers answered, tracks attached, data channels
    _media        RTP packets from a publisher to its subscribers
    _sdp          what an offer says, and what aiortc's answer lacks
    _aiortc       the adjustments to aiortc

Media is forwarded packet by packet: nothing is decoded, re-packetised or queued.

Limits: clients with a single peer connection (livekit >= 1.1.15 by default), VP8 and Opus, one simulcast
layer, host candidates over UDP; no resume (a client whose WebSocket drops reconnects in full), no TURN,
no end-to-end encryption, no data tracks, no server API.
"""
