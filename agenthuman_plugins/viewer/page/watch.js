// The viewer's page: asks which session there is to watch, and follows it.

import { Stage } from "./stage.js";
import { Watcher } from "./watcher.js";

const ASK_MS = 1000;

const get = (id) => document.getElementById(id);
const here = location.pathname.replace(/\/+$/, "");
const watcher = new Watcher(new Stage(), "The server does not answer. This page goes on by itself when it is back.");

async function ask() {
  try {
    const answer = await fetch(`${here}/state`);
    if (!answer.ok) throw new Error();
    const state = await answer.json();
    describe(state.session);
    watcher.follow(state);
  } catch {
    describe(null);
    watcher.lose();
  }
}

function describe(session) {
  get("session").hidden = !session;
  if (!session) return;
  get("avatar").textContent = session.avatar;
  get("session-id").textContent = session.session_id;
  get("age").textContent = `${Math.floor(session.duration / 60)}:${String(session.duration % 60).padStart(2, "0")}`;
}

watcher.addEventListener("ended", ask);
addEventListener("pageshow", ({ persisted }) => persisted && location.reload()); // the call did not survive the wait

for (;;) {
  await ask();
  await new Promise((resolve) => setTimeout(resolve, ASK_MS));
}
