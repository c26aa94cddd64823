// The list of sessions, and the one that is looked at: its face, its facts, its timeline.

import { Stage } from "/viewer/stage.js";
import { Watcher } from "/viewer/watcher.js";
import { count, fineSpan, get, GONE, make, span, words, write } from "./dom.js";
import { draw } from "./timeline.js";

const narrow = matchMedia("(max-width: 860px)");
const body = document.querySelector("#list tbody");
const strip = document.querySelector("#chart .strip");
const watcher = new Watcher(new Stage(), GONE);

const ENDED = {
  caller: "by the program",
  expiry: "time limit",
  sweep: "swept: alone",
  room_empty: "room was empty",
  gateway_closed: "gateway closed",
};
const PLATFORM = { proxy: "Room of the service", livekit: "LiveKit room of the program", daily: "Daily room" };

const MOST_EVENTS = 1000; // in the list; the emulator keeps no more either

const rows = new Map(); // id: the row and its cells
let sessions = new Map();
let now = Date.now;
let chosen = ""; // by the user; otherwise the newest one that runs is shown
let shown = ""; // the one in the detail
let drawn = 0; // events of it that are in the list

export function show({ sessions: every, clock, fresh }, changed) {
  sessions = every;
  now = clock;
  if (fresh) {
    for (const { row } of rows.values()) row.remove();
    rows.clear();
    shown = "";
  }
  for (const id of changed) updateRow(sessions.get(id));
  get("no-sessions").hidden = sessions.size > 0;
  body.parentElement.hidden = sessions.size === 0;
  look(changed);
}

// Shows one session, or with no id the one that is most worth it.
export function choose(id) {
  chosen = id;
  look([]);
  if (id && narrow.matches) get("detail").focus();
}

// What changes with time alone.
export function tick() {
  for (const [id, parts] of rows) {
    write(parts.duration, lasted(sessions.get(id)));
    write(parts.minutes, minutesOf(sessions.get(id)));
  }
  const session = sessions.get(shown);
  if (!session) return;
  if (!session.ended_at) {
    draw(strip, session, now());
    updateFacts(session);
  }
  follow(session);
}

export function lose() {
  watcher.lose();
}

// Whether the view is on the screen; a face that nobody sees is not fetched.
let visible = false;
export function appear(on) {
  visible = on;
  if (on) look([]);
  else watcher.hangUp();
}

function updateRow(session) {
  const id = session.session_id;
  if (!rows.has(id)) rows.set(id, makeRow(id, session));
  const parts = rows.get(id);
  const [state, kind] = stateOf(session);
  write(parts.state, state);
  parts.state.dataset.state = kind;
  write(parts.why, session.ended_by ? whyEnded(session) : "");
  write(parts.owner, ownerOf(session));
  write(parts.duration, lasted(session));
  write(parts.minutes, minutesOf(session));
}

function makeRow(id, session) {
  const face = make("img", { src: pictureOf(session.avatar), alt: "", width: 36, height: 36, loading: "lazy" });
  face.addEventListener("error", () => face.classList.add("missing"));
  const owner = make("span", { class: "more" });
  const state = make("span", { class: "light" });
  const why = make("span", { class: "more" });
  const duration = make("td", { class: "number" });
  const minutes = make("td", { class: "number" });
  // Ids differ at their end, so the middle is what gives way.
  const link = make("a", { href: `#sessions/${id}`, title: id }, make("span", {}, id.slice(0, -8)), make("span", {}, id.slice(-8)));
  const who = make("div", { class: "who" }, face, make("div", {}, link, owner));
  const row = make("tr", {}, make("td", {}, who), make("td", {}, state, why), duration, minutes);
  row.addEventListener("click", ({ target }) => link.contains(target) || link.click());
  body.prepend(row);
  return { row, link, owner, state, why, duration, minutes };
}

function look(changed) {
  const id = sessions.has(chosen) ? chosen : narrow.matches ? "" : newest();
  document.body.classList.toggle("open", sessions.has(chosen)); // after a reset there is nothing to open
  const another = id !== shown;
  if (another) {
    rows.get(shown)?.row.removeAttribute("aria-current");
    rows.get(id)?.row.setAttribute("aria-current", "true");
    shown = id;
    drawn = 0;
    get("events").replaceChildren();
  }
  const session = sessions.get(id);
  get("detail").hidden = !session;
  if (!session) {
    watcher.hangUp();
    return;
  }
  if (another || changed.includes(id)) {
    write(get("session-id"), id);
    const [across, down] = (session.aspect_ratio ?? "4:3").split(":");
    get("frame").style.setProperty("--ratio", `${across} / ${down}`);
    updateFacts(session);
    addEvents(session);
    draw(strip, session, now());
  }
  follow(session);
}

function newest() {
  const every = [...sessions.values()].reverse();
  return (every.find(({ status }) => status === "started") ?? every[0])?.session_id ?? "";
}

function follow(session) {
  if (visible) watcher.follow({ ...session.view, session });
}

function updateFacts(session) {
  const { client_owner: _, ...metadata } = session.metadata ?? {};
  const { billing } = session;
  const [state] = stateOf(session);
  const left = session.expiration && !session.ended_at ? `in ${words(Date.parse(session.expiration) - now())}` : "";
  const facts = {
    State: session.ended_by ? `Ended, ${whyEnded(session)}` : state,
    Avatar: session.avatar,
    Owner: ownerOf(session),
    Room: PLATFORM[session.platform] ?? session.platform,
    Participants: session.ended_at || session.platform === "daily" ? "" : String(session.participants),
    Duration: lasted(session),
    Expires: left,
    Minutes: billing ? `${billing.minutes_consumed}, ${billing.minutes_billed} beyond the plan` : "",
    Metadata: Object.keys(metadata).length ? JSON.stringify(metadata) : "",
  };
  const list = get("session-facts");
  const names = Object.keys(facts).filter((name) => facts[name]);
  if ([...list.querySelectorAll("dt")].map((dt) => dt.textContent).join() !== names.join()) {
    list.replaceChildren(...names.map((name) => make("div", {}, make("dt", {}, name), make("dd", {}))));
  }
  [...list.querySelectorAll("dd")].forEach((dd, i) => write(dd, facts[names[i]]));
}

function addEvents(session) {
  const begin = Date.parse(session.timeline[0]?.at);
  for (const event of session.timeline.slice(drawn)) {
    const at = make("time", { datetime: event.at, title: event.at }, `+${fineSpan(Date.parse(event.at) - begin)}`);
    const [sentence, kind] = tell(event, session);
    get("events").prepend(make("li", { class: kind }, at, make("span", {}, sentence)));
  }
  drawn = session.timeline.length;
  while (get("events").children.length > MOST_EVENTS) get("events").lastChild.remove();
}

// An event in words, and whether it is good or bad.
function tell({ event, at, ...rest }, session) {
  switch (event) {
    case "created": return ["Created", ""];
    case "started": return ["Started", ""];
    case "avatar_starting": return ["The avatar is starting", ""];
    case "ready": return ["The avatar is ready", "good"];
    case "without_room": return ["The avatar plays without a room: Daily needs Daily's cloud", ""];
    case "participants": return [rest.count ? `${count(rest.count, "participant")} in the room` : "Nobody else is in the room", ""];
    case "gateway_connected": return ["The program is connected to the gateway", ""];
    case "utterance_started": return ["Starts speaking", "speech"];
    case "utterance_finished": return [
      `${rest.interrupted ? "Interrupted" : "Finished speaking"} after ${rest.position_s?.toFixed(1)} s`,
      rest.interrupted ? "warn" : "speech",
    ];
    case "clear": return ["Asked to stop speaking", "warn"];
    case "fault": return [`Fault: ${rest.fault}`, "bad"];
    case "avatar_failed": return [`The avatar failed: ${rest.message ?? ""}`, "bad"];
    case "disconnected": return [`The avatar lost its room (${rest.reason})`, "bad"];
    case "exit": return [rest.code ? `The avatar's process died (exit code ${rest.code})` : "The avatar has left", rest.code ? "bad" : ""];
    case "ended": return [`Ended, ${whyEnded(session)}`, "end"];
    default: return [`${event.replaceAll("_", " ")} ${Object.keys(rest).length ? JSON.stringify(rest) : ""}`, ""];
  }
}

function whyEnded({ ended_by: by, timeline }) {
  const before = timeline.slice(0, timeline.findIndex(({ event }) => event === "ended"));
  const failed = before.some(({ event }) => event === "exit" || event === "avatar_failed");
  return by === "sweep" && failed ? "swept: failed" : ENDED[by] ?? by;
}

function stateOf({ status, avatar_state: avatar }) {
  if (status === "ended") return ["Ended", "ended"];
  if (status === "created") return ["Created", "connecting"];
  return { starting: ["Starting", "connecting"], failed: ["Avatar failed", "bad"], gone: ["Avatar gone", "bad"] }[avatar] ?? ["Running", "live"];
}

function ownerOf({ owner, metadata, platform }) {
  const kind = String(metadata?.client_ref ?? "").startsWith("lc-") ? "LangChain" : "";
  const process = owner ? `${owner.host}, process ${owner.pid}` : "";
  return [kind, process].filter(Boolean).join(" · ") || (PLATFORM[platform] ?? platform);
}

// Every minute that has begun counts.
function minutesOf({ started_at: from, billing }) {
  if (billing) return String(billing.minutes_consumed);
  return from ? String(Math.ceil((now() - Date.parse(from)) / 60_000)) : "–";
}

function lasted({ started_at: from, ended_at: to }) {
  return from ? span((to ? Date.parse(to) : now()) - Date.parse(from)) : "–";
}

function pictureOf(avatar) {
  return `/emulator/pictures/${encodeURIComponent(avatar)}/preview`;
}

narrow.addEventListener("change", () => look([]));

// Up and down go through the list.
body.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const row = event.target.closest("tr");
  const other = step === 1 ? row?.nextElementSibling : step === -1 ? row?.previousElementSibling : null;
  if (!other) return;
  event.preventDefault();
  const link = other.querySelector("a");
  link.focus();
  link.click();
});
new ResizeObserver(() => {
  const session = sessions.get(shown);
  if (session) draw(strip, session, now());
}).observe(strip);
