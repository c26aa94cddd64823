// The emulator's window: takes the state and its changes from the server, and shows them in three views.

import * as avatars from "./avatars.js";
import { canCopy, copy, count, get, GONE, send, words, write } from "./dom.js";
import * as faults from "./faults.js";
import * as sessions from "./sessions.js";

const AGAIN_MS = 2000;
const ROOMS = {
  none: "without rooms",
  embedded: "embedded room server",
  "livekit-server": "livekit-server",
  url: "the server of LIVEKIT_URL",
};
const VIEWS = ["sessions", "avatars", "faults"];

const state = { sessions: new Map() };
let online = false; // whether what is shown is the present state
let synced = { server: Date.now(), page: performance.now() }; // the emulator's time, and the page's at that moment

function now() {
  return state.clock?.paused ? synced.server : synced.server + performance.now() - synced.page;
}

function connect() {
  const source = new EventSource("/window/events");
  source.addEventListener("message", ({ data }) => apply(JSON.parse(data)));
  source.addEventListener("error", () => {
    get("link").dataset.state = "connecting";
    write(get("link"), "Not connected");
    sessions.lose();
    online = false;
    notice(GONE);
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN_MS); // it tries again only after lost connections
  });
}

function apply({ fresh, sessions: changed = [], ...parts }) {
  online = true;
  if (fresh) {
    state.sessions.clear();
    notice("");
  }
  Object.assign(state, parts);
  for (const session of changed.toReversed()) { // oldest first
    const before = state.sessions.get(session.session_id)?.timeline ?? [];
    state.sessions.set(session.session_id, { ...session, timeline: [...before, ...session.timeline] });
  }
  if (parts.clock) {
    synced = { server: Date.parse(parts.clock.now), page: performance.now() };
    showClock();
  }
  if (parts.about) showAbout(parts.about);
  if (parts.account) showAccount(parts.account);
  if (parts.avatars || parts.account) avatars.show(state.avatars, state.account);
  if (parts.faults) faults.show(parts.faults);
  if (fresh || changed.length) {
    sessions.show({ sessions: state.sessions, clock: now, fresh }, changed.map(({ session_id: id }) => id).reverse());
    faults.aim(state.sessions);
  }
  write(get("count-sessions"), String(state.sessions.size || ""));
  write(get("count-avatars"), String(state.avatars.length || ""));
  write(get("count-faults"), String(state.faults.length || ""));
}

function showAbout({ status, room_server: rooms, generation }) {
  get("link").dataset.state = { ok: "live", starting: "connecting", failed: "bad" }[status];
  write(get("link"), { starting: "Room server starting …", failed: "Room server failed" }[status] ?? `Live, ${ROOMS[rooms]}`);
  const open = generation === "managed" ? "s = AgentHuman().sessions; s.start(s.create())" : "AgentHuman().sessions.create()";
  write(get("first-command"), `python -c "from agenthuman_plugins import AgentHuman; ${open}"`);
}

function showAccount({ plan, session_limit_s: limit, minutes, minutes_running: running, minutes_ended: ended, minutes_billed: billed, slots }) {
  const total = minutes.included_minutes.total + minutes.purchased_minutes.total;
  write(get("plan"), plan);
  write(get("plan-more"), limit ? `${words(limit * 1000)} per session` : "sessions without a limit");
  write(get("minutes"), `${total - minutes.total_remaining} of ${total}`);
  write(get("minutes-more"), running ? `${running} by running sessions` : "");
  write(get("slots"), `${slots.current} of ${slots.max}`);
  Object.assign(get("slots-meter"), { max: slots.max, high: slots.max - 0.5, optimum: 0, value: slots.current });
  write(get("bill"), `${ended + running} min`);
  write(get("bill-more"), `${billed || "none"} beyond the plan`);
}

function showClock() {
  const { clock } = state;
  const time = new Date(now());
  write(get("time"), time.toISOString().slice(11, 19));
  get("time").dateTime = time.toISOString();
  const offset = clock.offset_s * 1000 - (clock.paused ? performance.now() - synced.page : 0);
  const ahead = Math.abs(offset) > 1500 ? `${words(Math.abs(offset))} ${offset > 0 ? "ahead" : "behind"}` : "";
  write(get("time-more"), [clock.paused && "paused", ahead].filter(Boolean).join(", ") || `UTC, ${time.toISOString().slice(0, 10)}`);
  write(get("pause"), clock.paused ? "Resume" : "Pause");
  get("pause").setAttribute("aria-pressed", String(clock.paused));
  get("expire").disabled = !clock.next_expiry;
  write(get("expire"), clock.next_expiry ? `To the next expiry, ${words(Date.parse(clock.next_expiry) - now())}` : "To the next expiry");
}

function notice(sentence) {
  get("notice").hidden = !sentence;
  write(get("notice"), sentence);
}

async function act(method, path, body) {
  try {
    await send(method, path, body && JSON.stringify(body));
    notice("");
  } catch (error) {
    notice(error.message);
  }
}

function route() {
  const [view, id = ""] = location.hash.slice(1).split("/");
  const name = VIEWS.includes(view) ? view : "sessions";
  for (const each of VIEWS) get(each).hidden = each !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  sessions.appear(name === "sessions");
  sessions.choose(name === "sessions" ? id : "");
}

const setClock = (body) => act("POST", "/window/emulator/clock", body);
get("pause").addEventListener("click", () => setClock({ paused: !state.clock?.paused }));
get("expire").addEventListener("click", () => setClock({ advance_to: "next_expiry" }));
for (const button of document.querySelectorAll("[data-advance]")) {
  button.addEventListener("click", () => setClock({ advance_s: Number(button.dataset.advance) }));
}

get("reset").addEventListener("click", () => {
  const running = [...state.sessions.values()].filter(({ status }) => status === "started").length;
  const own = (state.avatars ?? []).filter((avatar) => avatar.own).length;
  const gone = [
    count(state.sessions.size, "session") + (running ? ` (${running} running, which end now)` : ""),
    own && `${count(own, "avatar")} of yours`,
    "minutes used, agents, links and faults",
  ];
  write(get("reset-text"), `Forgotten are ${gone.filter(Boolean).join(", ")}. The clock shows the real time again.`);
  get("reset-dialog").returnValue = "";
  get("reset-dialog").showModal();
});
get("reset-dialog").addEventListener("close", ({ target }) => target.returnValue === "reset" && act("POST", "/window/emulator/reset"));

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = !canCopy;
  button.addEventListener("click", () => copy(button, get(button.dataset.copy).textContent));
}

addEventListener("hashchange", () => {
  if (online) notice("");
  route();
});
addEventListener("pageshow", ({ persisted }) => persisted && location.reload()); // neither call nor events survived the wait
faults.setUp(notice);
avatars.setUp(notice);
route();
connect();
setInterval(() => {
  if (!online) return;
  showClock();
  sessions.tick();
}, 1000);
