// The call: one peer connection to the server, with picture and voice back and a channel for messages.

const PING_MS = 1000; // the server takes a browser that stays silent for some seconds as gone
const GATHERING_MS = 1500; // on one machine every candidate is there at once

export class Call extends EventTarget {
  #peer = new RTCPeerConnection({ iceServers: [] });
  #channel = this.#peer.createDataChannel("messages");
  #audio;
  #picture;
  #options;
  #pings = 0;

  // offer: where the offer is posted. microphone: whether one may be sent. silent: the sentence for a server that does
  // not answer.
  constructor({ offer, microphone = false, silent = "The server does not answer." }) {
    super();
    // In this order: Pipecat goes by it.
    this.#audio = this.#peer.addTransceiver("audio", { direction: microphone ? "sendrecv" : "recvonly" });
    this.#picture = this.#peer.addTransceiver("video", { direction: "recvonly" });
    this.#options = { offer, microphone, silent };
  }

  // Connects and returns the server's answer; throws an Error with one sentence for the user.
  async connect() {
    this.#peer.addEventListener("track", ({ track }) => this.#tell(track.kind, new MediaStream([track])));
    this.#peer.addEventListener("connectionstatechange", () => {
      if (["failed", "closed", "disconnected"].includes(this.#peer.connectionState)) this.#tell("lost");
    });
    this.#channel.addEventListener("open", () => {
      if (this.#options.microphone) this.#mute(true);
      this.#channel.send("ping");
      this.#pings = setInterval(() => this.#isOpen() && this.#channel.send("ping"), PING_MS);
      this.#tell("open");
    });
    this.#channel.addEventListener("message", ({ data }) => this.#tell("message", JSON.parse(data)));
    this.#channel.addEventListener("close", () => this.#tell("lost"));
    addEventListener("pagehide", () => this.close());

    await this.#peer.setLocalDescription();
    await this.#gathered();
    const { sdp, type } = this.#peer.localDescription;
    const answer = await post(this.#options, { sdp, type });
    await this.#peer.setRemoteDescription(answer);
    return answer;
  }

  send(message) {
    if (this.#isOpen()) this.#channel.send(JSON.stringify(message));
  }

  // Sends the microphone from now on, or stops it; throws if the user or the system refuses.
  async setMicrophone(on) {
    const track = on ? await openMicrophone() : null;
    this.#audio.sender.track?.stop();
    await this.#audio.sender.replaceTrack(track);
    this.#mute(!on);
  }

  // The newest statistics of the picture, or undefined before there is one.
  async pictureStats() {
    const report = await this.#picture.receiver.getStats();
    return [...report.values()].find((entry) => entry.type === "inbound-rtp");
  }

  close() {
    clearInterval(this.#pings);
    this.#audio.sender.track?.stop();
    this.#peer.close();
  }

  #isOpen() {
    return this.#channel.readyState === "open";
  }

  // Pipecat waits for sound unless it is told that none will come.
  #mute(muted) {
    this.send({ type: "signalling", message: { type: "trackStatus", receiver_index: 0, enabled: !muted } });
  }

  #gathered() {
    if (this.#peer.iceGatheringState === "complete") return undefined;
    return new Promise((resolve) => {
      setTimeout(resolve, GATHERING_MS);
      this.#peer.addEventListener("icegatheringstatechange", () => {
        if (this.#peer.iceGatheringState === "complete") resolve();
      });
    });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

async function post({ offer, silent }, body) {
  let response;
  try {
    response = await fetch(offer, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error(silent);
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `The server answered with an error (${response.status}).`);
  return answer;
}

async function openMicrophone() {
  const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  return stream.getAudioTracks()[0];
}
