// The stage: the avatar's face and voice, a veil before them while there is nothing to see, and a status in words.

const get = (id) => document.getElementById(id);
const [frame, face, voice, veil, sound] = ["frame", "face", "voice", "veil", "sound"].map(get);

// Tells of "shown" when there is a picture, and of "heard" once when its voice plays.
export class Stage extends EventTarget {
  #heard = null; // the stream whose voice plays

  constructor() {
    super();
    sound.addEventListener("click", () => this.#play());
    for (const gesture of ["pointerdown", "keydown"]) {
      addEventListener(gesture, () => this.#waits && this.#play());
    }
  }

  get #waits() {
    return voice.srcObject && this.#heard !== voice.srcObject;
  }

  setStatus(state, words) {
    get("status").dataset.state = state;
    get("status").textContent = words;
  }

  // Uncovers the face with the stream's next picture.
  show(stream) {
    if (face.srcObject !== stream) face.srcObject = stream;
    face.requestVideoFrameCallback(() => {
      if (face.srcObject !== stream) return;
      veil.className = "lifted";
      this.dispatchEvent(new Event("shown"));
    });
  }

  hear(stream) {
    voice.srcObject = stream;
    this.#play();
  }

  // Shows that the avatar speaks.
  light(on) {
    frame.classList.toggle("voiced", on);
  }

  // Covers the face while something is awaited.
  wait(sentence) {
    this.#cover("", sentence);
  }

  // Covers the face for good, and lets go of its streams.
  close(sentence) {
    this.#cover("resting", sentence);
    this.light(false);
    face.srcObject = voice.srcObject = null;
    sound.hidden = true;
  }

  #cover(kind, sentence) {
    if (get("veil-text").textContent !== sentence) get("veil-text").textContent = sentence;
    veil.className = kind;
  }

  async #play() {
    const stream = voice.srcObject;
    try {
      await voice.play();
    } catch {
      sound.hidden = !this.#waits; // browsers play no sound before the user has touched the page
      return;
    }
    if (this.#heard === stream || voice.srcObject !== stream) return;
    this.#heard = stream;
    sound.hidden = true;
    this.dispatchEvent(new CustomEvent("heard", { detail: stream }));
  }
}
