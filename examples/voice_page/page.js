// The page: what the user says goes to the agent, and what the avatar tells of itself is shown as it is heard.

import { Call } from "./viewer/call.js";
import { Stage } from "./viewer/stage.js";

const get = (id) => document.getElementById(id);
const [log, form, text, mic, interrupt, again] = ["log", "say", "text", "mic", "interrupt", "again"].map(get);

const call = new Call({ offer: "/offer", microphone: true, silent: "The program does not answer: start it again." });
const stage = new Stage();
let reply = null; // what is being spoken
let away = false; // whether there is no avatar: then answers are shown as they are written
let understandsSpeech = false;

function add(kind, words) {
  const item = document.createElement("li");
  item.className = kind;
  item.textContent = words;
  log.append(item);
  log.scrollTop = log.scrollHeight;
  return item;
}

function end(sentence) {
  call.close();
  for (const control of [mic, interrupt, form.querySelector("button")]) control.disabled = true;
  stage.close(sentence);
  stage.setStatus("ended", "Not connected");
  again.hidden = false;
}

function endReply(interrupted) {
  reply?.classList.remove("speaking");
  if (interrupted) reply?.classList.add("cut");
  reply = null;
  interrupt.disabled = true;
}

function write(words) {
  reply ??= add(away ? "bot" : "bot speaking", "");
  reply.textContent += words;
  log.scrollTop = log.scrollHeight;
}

// The events of the pipeline, under their own names.
const onEvent = {
  stt_output: ({ transcript }) => {
    if (away) endReply(false);
    add("user", transcript);
  },
  agent_chunk: ({ text: words }) => away && write(words),
  avatar_connected: () => {
    away = false;
    stage.setStatus("live", "Live");
  },
  avatar_disconnected: ({ reason }) => {
    away = true;
    endReply(false);
    stage.setStatus("connecting", "Away");
    add("note", `The avatar is away: ${reason}`);
  },
  avatar_started: () => {
    reply = add("bot speaking", "");
    interrupt.disabled = false;
  },
  avatar_text: ({ text: words }) => write(words),
  avatar_finished: ({ interrupted }) => endReply(interrupted),
  state: ({ state, text: sentence }) => {
    stage.light(state === "speaking");
    if (state === "ended") end(sentence || "The avatar has left.");
  },
};

function say(words) {
  if (words.trim()) call.send({ type: "text", text: words.trim() });
}

function stop() {
  if (!interrupt.disabled) call.send({ type: "interrupt" });
}

async function toggleMicrophone() {
  const on = mic.getAttribute("aria-pressed") !== "true";
  try {
    await call.setMicrophone(on);
  } catch {
    add("note", "The microphone cannot be used: allow it for this page in the browser's settings.");
    return;
  }
  mic.setAttribute("aria-pressed", String(on));
  if (on && !understandsSpeech) add("note", "Speak to interrupt. To be understood, set OPENAI_API_KEY.");
}

call.addEventListener("video", ({ detail: stream }) => stage.show(stream));
call.addEventListener("audio", ({ detail: stream }) => stage.hear(stream));
call.addEventListener("open", () => {
  for (const control of [mic, form.querySelector("button")]) control.disabled = false;
});
call.addEventListener("message", ({ detail }) => onEvent[detail.type]?.(detail));
call.addEventListener("lost", () => again.hidden && end("The program has stopped, or lost this page."));

form.addEventListener("submit", (event) => {
  event.preventDefault();
  say(text.value);
  text.value = "";
});
interrupt.addEventListener("click", stop);
mic.addEventListener("click", toggleMicrophone);
again.addEventListener("click", () => location.reload());
addEventListener("keydown", ({ key }) => key === "Escape" && stop());

try {
  ({ understands_speech: understandsSpeech } = await call.connect());
} catch (error) {
  end(error.message);
}
