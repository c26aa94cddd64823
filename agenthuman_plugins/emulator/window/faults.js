// Faults as buttons, each with what it does, and those that wait for their time.

import { count, flash, get, make, send } from "./dom.js";

const REQUEST_FAULTS = {
  status: ["Error", "The request is answered with this status, without being processed.", ["status", "500", "503", "429", "403", "401"]],
  delay: ["Delay", "The request waits for so many seconds.", ["delay_s", "1", "5", "30"]],
  cut_before: ["Cut before", "The connection breaks, and the request is not processed."],
  cut_after: ["Cut after", "The request is processed, and the connection breaks before the answer."],
  cut_body: ["Cut the answer", "The connection breaks in the middle of the answer."],
  malformed_body: ["Malformed answer", "The request is processed, and answered with half a JSON object."],
};
const AVATAR_FAULTS = {
  avatar_crash: ["Crash", "The avatar's process dies: at once in a running session, else when it first plays."],
  avatar_silent: ["Silence", "The avatar takes speech and never plays it."],
  no_playback_finished: ["No report", "The avatar plays and never reports the end."],
  room_loss: ["Loss of the room", "The avatar loses its room: at once in a running session, else when it first plays."],
};
const TARGETS = [
  ["any request", {}],
  ["the next create", { method: "POST", path: "/v1/sessions" }],
  ["the end of a session", { path: "/v1/sessions/*/end" }],
  ["reading sessions", { method: "GET", path: "/v1/sessions*" }],
  ["reading the usage", { path: "/v1/usage" }],
  ["upload of a picture", { method: "POST", path: "/v1/avatars/upload-face" }],
];
let complain = () => {};

export function setUp(notice) {
  complain = notice;
  fill("request-faults", REQUEST_FAULTS);
  fill("avatar-faults", AVATAR_FAULTS);
  offer("request-faults", TARGETS.map(([label, target]) => [label, JSON.stringify(target)]));
  get("clear-faults").addEventListener("click", () => attempt(send("DELETE", "/window/emulator/faults")));
}

export function show(faults) {
  get("none-waiting").hidden = faults.length > 0;
  get("clear-faults").hidden = faults.length === 0;
  get("pending").replaceChildren(...faults.map((fault) => make("li", {}, make("b", {}, nameOf(fault)), ` ${describe(fault)}`)));
}

// Running sessions can be chosen for faults of avatars, and for requests about them.
export function aim(sessions) {
  const running = [...sessions.values()].reverse().filter(({ status }) => status === "started");
  offer("avatar-faults", [
    ["the next session", "{}"],
    ...running.map(({ session_id: id }) => [`running now: ${id}`, JSON.stringify({ session_id: id })]),
  ]);
}

function offer(form, options) {
  const select = get(form).elements.target;
  if ([...select.options].map(({ value }) => value).join() === options.map(([, value]) => value).join()) return;
  const before = select.value;
  select.replaceChildren(...options.map(([label, value]) => make("option", { value }, label)));
  if (options.some(([, value]) => value === before)) select.value = before;
}

function fill(id, faults) {
  const form = get(id);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const fault = event.submitter.value;
    const body = { fault, ...JSON.parse(form.elements.target.value) };
    if (form.elements.times) body.times = Number(form.elements.times.value);
    const [name] = faults[fault][2] ?? [];
    if (name) body[name] = Number(form.elements[name].value);
    attempt(send("POST", "/window/emulator/faults", JSON.stringify(body)), event.submitter);
  });
  form.querySelector("ul").append(...Object.entries(faults).map(([fault, [label, does, choices]]) => {
    const item = make("li", {}, make("button", { value: fault, "aria-describedby": `does-${fault}` }, label), make("p", { id: `does-${fault}` }, does));
    if (choices) {
      const [name, ...values] = choices;
      const options = values.map((value) => make("option", { value }, name === "delay_s" ? `${value} s` : value));
      item.append(make("select", { name, "aria-label": name === "delay_s" ? "Seconds" : "Status" }, ...options));
    }
    return item;
  }));
}

async function attempt(sending, button) {
  try {
    await sending;
    complain("");
    if (button) flash(button, "Set");
  } catch (error) {
    complain(error.message);
  }
}

function nameOf({ fault }) {
  return (REQUEST_FAULTS[fault] ?? AVATAR_FAULTS[fault] ?? [fault])[0];
}

function describe({ fault, times, method, path, session_id: id, status, delay_s: delay }) {
  const detail = { status: `${status}`, delay: `${delay} s` }[fault] ?? "";
  const where = fault in AVATAR_FAULTS ? "" : `for ${[method, path ?? "all requests", id].filter(Boolean).join(" ")}`;
  const often = fault in AVATAR_FAULTS ? `in the next ${times === 1 ? "session" : count(times, "session")}` : count(times, "time");
  return [detail, where, often].filter(Boolean).join(", ");
}
