// Small helpers around the document: elements, and changes that touch only what is different.

export const get = (id) => document.getElementById(id);

// Control characters, among them those that turn the direction of writing, would change how the rest is read.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
const readable = (text) => text.replace(UNSEEN, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);

// Makes an element: make("td", { class: "number" }, "12").
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.map((child) => (typeof child === "string" ? readable(child) : child)));
  return element;
}

export function write(element, text) {
  text = readable(text);
  if (element.textContent !== text) element.textContent = text;
}

// 1:05 or 2:01:05.
export function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

// 1:05.3: for moments that are close together.
export function fineSpan(ms) {
  return `${span(ms)}.${Math.max(0, Math.floor(ms / 100)) % 10}`;
}

// "45 s", "10 min", "2 h 5 min": for sentences.
export function words(ms) {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const [days, hours, rest] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24, minutes % 60];
  if (days) return hours ? `${days} d ${hours} h` : `${days} d`;
  return rest ? `${hours} h ${rest} min` : `${hours} h`;
}

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

// Copies a text and says so on the button.
export async function copy(button, text) {
  await navigator.clipboard.writeText(text);
  flash(button, "Copied");
}

// There is no clipboard for a page from another machine.
export const canCopy = Boolean(navigator.clipboard);

// Shows on a button for a moment that it did what it says.
export function flash(button, text) {
  button.dataset.label ??= button.textContent;
  write(button, text);
  setTimeout(() => write(button, button.dataset.label), 1200);
}

export const GONE = "The emulator does not answer. This page goes on by itself when it is back.";

// Sends a request and returns its answer; throws an Error with the sentence of a refusal.
export async function send(method, path, body, type = "application/json") {
  let answer;
  try {
    answer = await fetch(path, { method, body, headers: body === undefined ? {} : { "Content-Type": type } });
  } catch {
    throw new Error(GONE);
  }
  const content = await answer.json().catch(() => ({}));
  if (answer.ok) return content;
  const { message, suggestion } = content.error ?? {};
  throw new Error([message ?? `The emulator answered with an error (${answer.status})`, suggestion].filter(Boolean).map((part) => `${part}.`).join(" "));
}
