// Watches one session at a time: calls its viewer, calls again when the connection is lost, and shows how it fares.

import { Call } from "./call.js";

const AGAIN_MS = 3000; // after a call that failed

const get = (id) => document.getElementById(id);
const [frame, face, voice, mute, full] = ["frame", "face", "voice", "mute", "full"].map(get);

// Tells of "ended" when the avatar has left its room.
export class Watcher extends EventTarget {
  #stage;
  #gone;
  #call = null; // the one that is connected, or being connected
  #watched = ""; // the id of its session
  #shown = false; // whether a picture of it has come
  #failed = ""; // the id of the session that the last call failed for
  #notBefore = 0; // when that session may be called again

  // gone: the sentence for a server that does not answer.
  constructor(stage, gone) {
    super();
    this.#stage = stage;
    this.#gone = gone;
    stage.addEventListener("shown", () => {
      this.#shown = Boolean(this.#call);
      mute.disabled = full.disabled = !this.#call;
    });
    mute.addEventListener("click", toggleMute);
    full.addEventListener("click", toggleFullScreen);
    document.addEventListener("fullscreenchange", () => {
      full.setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
    });
    addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey, target }) => {
      if (ctrlKey || metaKey || altKey || target.matches("input, select")) return;
      if (key.toLowerCase() === "m") toggleMute();
      if (key.toLowerCase() === "f") toggleFullScreen();
    });
  }

  // state: waiting (for a session), running, ended, or unseen (nothing of it can be shown). Call it again from time to
  // time: it does what is due.
  follow({ state, text, session }) {
    if (state === "running") {
      if (session.session_id !== this.#watched) this.hangUp();
      const due = session.session_id !== this.#failed || Date.now() >= this.#notBefore;
      if (!this.#call && due) this.#connect(session.session_id);
      if (!this.#shown && this.#call) this.#stage.wait(text);
      return;
    }
    this.hangUp();
    if (state === "waiting") {
      this.#stage.wait(text);
      this.#stage.setStatus("connecting", "Waiting for a session");
    } else {
      this.#stage.close(text);
      this.#stage.setStatus("ended", state === "ended" ? "Ended" : "Nothing to see");
    }
  }

  hangUp() {
    this.#call?.close();
    this.#call = null;
    this.#watched = "";
    this.#shown = false;
    this.#stage.light(false);
    mute.disabled = full.disabled = true;
  }

  // Shows that the server is away.
  lose() {
    this.hangUp();
    this.#stage.wait(this.#gone);
    this.#stage.setStatus("connecting", "Not connected");
  }

  async #connect(id) {
    const stage = this.#stage;
    const mine = (this.#call = new Call({ offer: `/watch/${id}/offer`, silent: this.#gone }));
    this.#watched = id;
    stage.setStatus("connecting", "Connecting …");
    mine.addEventListener("video", ({ detail }) => mine === this.#call && stage.show(detail));
    mine.addEventListener("audio", ({ detail }) => mine === this.#call && stage.hear(detail));
    mine.addEventListener("message", ({ detail }) => mine === this.#call && detail.type === "state" && this.#tell(detail));
    mine.addEventListener("lost", () => mine === this.#call && this.#fail("The connection was lost. Trying again …"));
    try {
      await mine.connect();
    } catch (error) {
      if (mine === this.#call) this.#fail(error.message);
    }
  }

  #fail(sentence) {
    this.#failed = this.#watched;
    this.hangUp();
    this.#notBefore = Date.now() + AGAIN_MS;
    this.#stage.wait(sentence);
    this.#stage.setStatus("connecting", "Not connected");
  }

  // What the viewer says of the avatar in its room.
  #tell({ state, text }) {
    const stage = this.#stage;
    stage.light(state === "speaking");
    if (state === "speaking" || state === "quiet") {
      if (!this.#shown && face.srcObject) stage.show(face.srcObject);
      stage.setStatus("live", state === "speaking" ? "Speaking" : "Live");
    } else if (state === "waiting") {
      this.#shown = false;
      stage.wait("Waiting for the avatar …");
      stage.setStatus("connecting", "Waiting for the avatar");
    } else {
      this.#fail(text || "The avatar has left the room.");
      this.dispatchEvent(new Event("ended"));
    }
  }
}

function toggleMute() {
  if (mute.disabled) return;
  voice.muted = !voice.muted;
  mute.setAttribute("aria-pressed", String(voice.muted));
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (!full.disabled) frame.requestFullscreen().catch(() => {}); // the browser may not allow it
}
