// A session's life as a picture: the avatar, who is in the room, speech, and faults, each in a lane of its own.
//
// Pauses in which nothing happens are cut short, so that speech stays readable beside hours of silence.

import { span, words } from "./dom.js";

const LANES = { avatar: 30, room: 58, speech: 86, fault: 114 }; // y of each lane's top, in pixels
const LANE = 20;
const HEIGHT = 144;
const LEFT = 8;
const RIGHT = 16;
const LONGEST_MS = 15_000; // a longer pause is cut
const CUT_MS = 5_000; // and drawn as long as this
const LEAST_PER_SECOND = 14; // pixels; then the picture scrolls
const MOST_EVENTS = 400;
const NAME = "http://www.w3.org/2000/svg";

// Draws into a strip; now is the end of a session that runs.
export function draw(strip, session, now) {
  const every = session.timeline.slice(-MOST_EVENTS).map((event) => ({ ...event, ms: Date.parse(event.at) }));
  if (!every.length) return strip.replaceChildren();
  const ended = every.find(({ event }) => event === "ended")?.ms;
  const end = ended ?? Math.max(now, every.at(-1).ms);
  const events = every.filter(({ ms }) => ms <= end); // the avatar leaves later: hours, if the clock was moved beyond the end
  const axis = makeAxis(events.map(({ ms }) => ms), end, strip.clientWidth - LEFT - RIGHT);
  const svg = shape("svg", { width: axis.width + LEFT + RIGHT, height: HEIGHT, "aria-hidden": "true" });
  const begin = events[0].ms;
  for (const { from, to, cut } of axis.pieces) {
    if (cut) drawCut(svg, LEFT + axis.x(from), LEFT + axis.x(to), words(to - from));
  }
  drawTicks(svg, axis, begin);
  const bar = (lane, from, to, kind, label = "") =>
    drawBar(svg, LANES[lane], LEFT + axis.x(from), LEFT + axis.x(to), kind, label);

  for (const { from, to, kind, label } of avatarBars(events, end)) bar("avatar", from, to, kind, label);
  for (const { from, to, number } of roomBars(events, end)) {
    bar("room", from, to, number ? "people" : "alone", number ? String(number) : "empty");
  }
  for (const { from, to, kind, label } of speechBars(events, end)) bar("speech", from, to, kind, label);
  for (const event of events.filter(({ event: name }) => ["fault", "avatar_failed", "disconnected"].includes(name))) {
    const x = LEFT + axis.x(event.ms);
    svg.append(shape("path", { d: `M${x} ${LANES.fault + 3}l7 13h-14z`, class: "bad" }));
  }
  if (session.ended_at) {
    const x = LEFT + axis.x(end);
    svg.append(shape("path", { d: `M${x} 22V${HEIGHT - 8}`, class: "end" }));
  }
  const atEnd = strip.scrollLeft + strip.clientWidth >= strip.scrollWidth - 40;
  strip.replaceChildren(svg);
  if (atEnd) strip.scrollLeft = strip.scrollWidth;
}

// Where each moment is drawn: pieces between events, long ones cut.
function makeAxis(moments, end, room) {
  const times = [...new Set([...moments, end])].sort((a, b) => a - b);
  const pieces = [];
  let length = 0;
  for (let i = 1; i < times.length; i += 1) {
    const [from, to] = [times[i - 1], times[i]];
    const cut = to - from > LONGEST_MS;
    pieces.push({ from, to, cut, at: length, length: cut ? CUT_MS : to - from });
    length += pieces.at(-1).length;
  }
  const scale = Math.max(room / Math.max(length, 10_000), LEAST_PER_SECOND / 1000);
  return {
    pieces,
    width: Math.max(room, length * scale),
    x(ms) {
      const piece = pieces.find(({ to }) => ms <= to) ?? pieces.at(-1);
      if (!piece) return 0;
      return (piece.at + ((ms - piece.from) / (piece.to - piece.from)) * piece.length) * scale;
    },
  };
}

function drawTicks(svg, axis, begin) {
  let free = -Infinity;
  for (const { from, to, cut } of axis.pieces) {
    if (cut) {
      free = LEFT + axis.x(to) + 4;
      continue;
    }
    const step = 5000;
    for (let ms = begin + Math.ceil((from - begin) / step) * step; ms <= to; ms += step) {
      const x = LEFT + axis.x(ms);
      svg.append(shape("path", { d: `M${x} 22V${HEIGHT - 8}`, class: "tick" }));
      if (x < free) continue;
      svg.append(text(span(ms - begin), x, 14, "tick-label"));
      free = x + 56;
    }
  }
}

function drawCut(svg, from, to, label) {
  svg.append(shape("rect", { x: from, y: 22, width: to - from, height: HEIGHT - 30, class: "cut" }));
  if (to - from > 40) svg.append(text(label, (from + to) / 2, HEIGHT - 14, "cut-label"));
}

function drawBar(svg, y, from, to, kind, label) {
  const width = Math.max(2, to - from);
  svg.append(shape("rect", { x: from, y, width, height: LANE, rx: Math.min(5, width / 2), class: kind }));
  if (label && width > label.length * 7 + 8) svg.append(text(label, from + 7, y + 14, `on ${kind}`));
}

function* avatarBars(events, end) {
  let open = null;
  for (const { event: name, ms } of events) {
    const next = { avatar_starting: "starting", ready: "here", without_room: "here" }[name];
    if (open && (next || ["exit", "avatar_failed", "ended"].includes(name))) {
      yield { ...open, to: ms };
      open = null;
    }
    if (next) open = { from: ms, kind: next, label: next === "here" ? "ready" : "starting" };
  }
  if (open) yield { ...open, to: end };
}

function* roomBars(events, end) {
  let open = null;
  for (const { event: name, ms, count: number } of events) {
    if (name !== "participants" && name !== "ended" && name !== "exit") continue;
    if (open) yield { ...open, to: ms };
    open = name === "participants" ? { from: ms, number } : null;
  }
  if (open) yield { ...open, to: end };
}

function* speechBars(events, end) {
  let open = null;
  for (const { event: name, ms, interrupted } of events) {
    if (name === "utterance_started") open = ms;
    if (open === null || !["utterance_finished", "exit", "ended"].includes(name)) continue;
    const cut = interrupted || name !== "utterance_finished";
    yield { from: open, to: ms, kind: cut ? "interrupted" : "speech", label: `${((ms - open) / 1000).toFixed(1)} s` };
    open = null;
  }
  if (open !== null) yield { from: open, to: end, kind: "speech", label: "speaking" };
}

function shape(name, attributes) {
  const element = document.createElementNS(NAME, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function text(words, x, y, kind) {
  const element = shape("text", { x, y, class: kind });
  element.textContent = words;
  return element;
}
