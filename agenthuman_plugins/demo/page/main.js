// The page: joins the call, the conversation and the figures to what the user sees and presses.

import { Call } from "./viewer/call.js";
import { Stage } from "./viewer/stage.js";
import { Conversation } from "./conversation.js";
import { Figures } from "./figures.js";
import { server } from "./server.js";

const NOTICE_MS = 12_000;

const get = (id) => document.getElementById(id);
const [face, form, text] = ["face", "say", "text"].map(get);
const [mic, interrupt, again] = ["mic", "interrupt", "again"].map(get);

const call = new Call({ offer: "/api/offer", microphone: true, silent: server.silent });
const stage = new Stage();
const conversation = new Conversation(get("log"));
const figures = new Figures(call, face);
let ended = false;
let id = "";
let voice = null;
let understandsSpeech = false;
let micExplained = false;
let noticeTimer = 0;

function notify(sentence) {
  clearTimeout(noticeTimer);
  get("notice").textContent = sentence;
  get("notice").hidden = !sentence;
  if (sentence) noticeTimer = setTimeout(() => notify(""), NOTICE_MS);
}

function setConnected(connected) {
  for (const control of [mic, form.querySelector("button"), ...get("ideas").children]) control.disabled = !connected;
}

function end(sentence) {
  if (ended) return;
  ended = true;
  call.close();
  conversation.endReply({ interrupted: false });
  setConnected(false);
  interrupt.disabled = true;
  stage.close(sentence);
  again.textContent = "Try again";
  again.hidden = again.disabled = false;
  stage.setStatus("ended", "Not connected");
}

function send(message) {
  const written = server.write(message);
  if (written) call.send(written);
}

function say(words) {
  const message = words.trim();
  if (!message || ended) return;
  notify("");
  conversation.addUser(message);
  figures.ask();
  send({ type: "text", text: message });
}

function stopSpeaking() {
  if (!interrupt.disabled) send({ type: "interrupt" });
}

async function toggleMicrophone() {
  const on = mic.getAttribute("aria-pressed") !== "true";
  try {
    await call.setMicrophone(on);
  } catch {
    notify("The microphone cannot be used: allow it for this page in the browser's settings.");
    return;
  }
  mic.setAttribute("aria-pressed", String(on));
  mic.classList.remove("hearing");
  if (on && !understandsSpeech && !micExplained) {
    micExplained = true;
    conversation.addNote(server.unheard);
  }
}

const onMessage = {
  avatar: ({ here }) => {
    get("frame").classList.toggle("away", !here);
    if (here) stage.setStatus("live", "Live");
    else stage.setStatus("connecting", "Voice only");
  },
  words: ({ text: words }) => conversation.addWords(words),
  speaking: ({ on }) => {
    interrupt.disabled = !on;
    if (on) figures.beginReply();
    else conversation.endReply({ interrupted: false });
  },
  interrupted: () => {
    interrupt.disabled = true;
    conversation.endReply({ interrupted: true });
  },
  hearing: ({ on, text: words }) => {
    mic.classList.toggle("hearing", on);
    if (words) conversation.addUser(words);
  },
  delay: ({ ms }) => figures.setVoiceDelay(ms),
  error: ({ text: sentence }) => notify(sentence),
  ended: ({ text: sentence }) => end(sentence),
};

call.addEventListener("video", ({ detail: stream }) => stage.show(stream));
call.addEventListener("audio", ({ detail: stream }) => (voice = stream));
call.addEventListener("open", () => {
  setConnected(true);
  stage.hear(voice); // not before: the demo is told when its user can hear
});
call.addEventListener("message", ({ detail }) => {
  const message = server.read(detail);
  if (message) onMessage[message.type]?.(message);
});
call.addEventListener("lost", () => end(server.lost));
stage.addEventListener("shown", () => !ended && stage.setStatus("live", "Live"));
stage.addEventListener("heard", ({ detail: stream }) => {
  figures.listen(stream, (heard) => stage.light(heard));
  send({ type: "sound" });
});
// The channel may go down with the page before a word gets through; a beacon does not.
addEventListener("pagehide", () => id && server.leave(id));

form.addEventListener("submit", (event) => {
  event.preventDefault();
  say(text.value);
  text.value = "";
});
for (const idea of get("ideas").children) idea.addEventListener("click", () => say(idea.textContent));
interrupt.addEventListener("click", stopSpeaking);
mic.addEventListener("click", toggleMicrophone);
again.addEventListener("click", () => (ended ? location.reload() : connect()));
addEventListener("keydown", (event) => {
  if (event.key === "Escape") stopSpeaking();
});
addEventListener("pageshow", ({ persisted }) => persisted && location.reload()); // the call did not survive the wait

async function connect() {
  again.hidden = again.disabled = true; // a script can press what is hidden
  stage.wait("Waking the avatar …");
  stage.setStatus("connecting", "Connecting …");
  try {
    ({ pc_id: id, understands_speech: understandsSpeech } = await call.connect());
  } catch (error) {
    end(error.message);
  }
}

get("server").textContent = server.name;
interrupt.hidden = !server.interrupts;
setConnected(false);
if (server.greetsAtOnce) {
  // The click also lets the browser play the greeting.
  stage.close("Press Connect to talk to the bot.");
  stage.setStatus("connecting", "Not connected");
  again.textContent = "Connect";
  again.hidden = false;
} else {
  await connect();
}
