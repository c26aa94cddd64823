// The two servers of this page: the demo, and Pipecat's runner, whose messages (RTVI) are put into the page's own.

const demo = {
  name: "local demo",
  silent: "The demo does not answer: start it again with “agenthuman demo”.",
  lost: "The demo has stopped, or lost this page.",
  unheard: "Speak to interrupt. To be understood, start the demo with OPENAI_API_KEY set.",
  greetsAtOnce: false, // it waits until its user can hear
  interrupts: true,
  leave: (id) => navigator.sendBeacon(`/api/leave/${id}`),
  read: (message) => message,
  write: (message) => message,
};

const runner = {
  name: "Pipecat bot",
  silent: "The bot does not answer: start it again.",
  lost: "The bot has stopped, or lost this page.",
  unheard: "Speak to interrupt. To be understood, start the bot with OPENAI_API_KEY set.",
  greetsAtOnce: true,
  interrupts: false, // RTVI has no message for it: new text interrupts
  leave: () => {}, // the call's end is enough
  read: ({ type, data }) => READ[type]?.(data),
  write: (message) => WRITE[message.type]?.(message),
};

const READ = {
  "bot-started-speaking": () => ({ type: "speaking", on: true }),
  "bot-stopped-speaking": () => ({ type: "speaking", on: false }),
  "bot-interrupted": () => ({ type: "interrupted" }),
  "bot-tts-text": ({ text }) => ({ type: "words", text }),
  "user-started-speaking": () => ({ type: "hearing", on: true }),
  "user-stopped-speaking": () => ({ type: "hearing", on: false }),
  "user-transcription": ({ text, final }) => ({ type: "hearing", on: !final, text: final ? text : "" }),
  metrics: ({ ttfb = [] }) => {
    const avatar = ttfb.find(({ processor }) => processor.startsWith("AgentHuman"));
    return avatar && { type: "delay", ms: Math.round(1000 * avatar.value) };
  },
  error: ({ error }) => ({ type: "error", text: error }),
};

let sent = 0;
const WRITE = {
  text: ({ text }) => ({
    label: "rtvi-ai",
    type: "send-text",
    id: String((sent += 1)), // crypto.randomUUID is for https and localhost alone
    data: { content: text, options: { run_immediately: true } },
  }),
};

export const server = location.pathname.startsWith("/client/") ? runner : demo;
