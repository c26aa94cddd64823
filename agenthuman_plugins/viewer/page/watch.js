// The viewer's page: asks which session there is to watch, joins it, and shows how it fares.

import { Call } from "./call.js";
import { Stage } from "./stage.js";

const ASK_MS = 1000;
const AGAIN_MS = 3000; // after a call that failed

const get = (id) => document.getElementById(id);
const [frame, voice, mute, full] = ["frame", "voice", "mute", "full"].map(get);
const here = location.pathname.replace(/\/+$/, "");
const gone = "The server does not answer. This page goes on by itself when it is back.";

const stage = new Stage();
let call = null; // the one that is connected, or being connected
let watched = ""; // the id of its session
let shown = false; // whether a picture of it has come
let notBefore = 0; // when the next call may be made

async function ask() {
  try {
    const answer = await fetch(`${here}/state`);
    if (!answer.ok) throw new Error();
    follow(await answer.json());
  } catch {
    hangUp();
    describe(null);
    stage.wait(gone);
    stage.setStatus("connecting", "Not connected");
  }
}

// state: waiting (for a session), running, ended, or unseen (nothing of it can be shown).
function follow({ state, text, session }) {
  describe(session);
  if (state === "running") {
    if (session.session_id !== watched) hangUp();
    if (!call && Date.now() >= notBefore) connect(session.session_id);
    if (!shown && call) stage.wait(text);
    return;
  }
  hangUp();
  if (state === "waiting") {
    stage.wait(text);
    stage.setStatus("connecting", "Waiting for a session");
  } else {
    stage.close(text);
    stage.setStatus("ended", state === "ended" ? "Ended" : "Nothing to see");
  }
}

async function connect(id) {
  const mine = (call = new Call({ offer: `/watch/${id}/offer`, silent: gone }));
  watched = id;
  stage.setStatus("connecting", "Connecting …");
  mine.addEventListener("video", ({ detail: stream }) => stage.show(stream));
  mine.addEventListener("audio", ({ detail: stream }) => stage.hear(stream));
  mine.addEventListener("message", ({ detail }) => mine === call && detail.type === "state" && tell(detail));
  mine.addEventListener("lost", () => mine === call && fail("The connection was lost. Trying again …"));
  try {
    await mine.connect();
  } catch (error) {
    if (mine === call) fail(error.message);
  }
}

function fail(sentence) {
  hangUp();
  notBefore = Date.now() + AGAIN_MS;
  stage.wait(sentence);
  stage.setStatus("connecting", "Not connected");
}

function hangUp() {
  call?.close();
  call = null;
  watched = "";
  shown = false;
  stage.light(false);
  mute.disabled = full.disabled = true;
}

// What the viewer says of the avatar in its room.
function tell({ state, text }) {
  stage.light(state === "speaking");
  if (state === "speaking" || state === "quiet") {
    if (!shown && get("face").srcObject) stage.show(get("face").srcObject);
    stage.setStatus("live", state === "speaking" ? "Speaking" : "Live");
  } else if (state === "waiting") {
    shown = false;
    stage.wait("Waiting for the avatar …");
    stage.setStatus("connecting", "Waiting for the avatar");
  } else {
    fail(text || "The avatar has left the room.");
    ask();
  }
}

function describe(session) {
  get("session").hidden = !session;
  if (!session) return;
  get("avatar").textContent = session.avatar;
  get("session-id").textContent = session.session_id;
  get("age").textContent = `${Math.floor(session.duration / 60)}:${String(session.duration % 60).padStart(2, "0")}`;
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

stage.addEventListener("shown", () => {
  shown = Boolean(call);
  mute.disabled = full.disabled = !call;
});
mute.addEventListener("click", toggleMute);
full.addEventListener("click", toggleFullScreen);
document.addEventListener("fullscreenchange", () => {
  full.setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
});
addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey }) => {
  if (ctrlKey || metaKey || altKey) return;
  if (key.toLowerCase() === "m") toggleMute();
  if (key.toLowerCase() === "f") toggleFullScreen();
});
addEventListener("pageshow", ({ persisted }) => persisted && location.reload()); // the call did not survive the wait

for (;;) {
  await ask();
  await new Promise((resolve) => setTimeout(resolve, ASK_MS));
}
