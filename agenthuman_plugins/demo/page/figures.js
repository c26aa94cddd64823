// Live figures, all measured: in this page, except the voice delay, which the pipeline measures.

const VOICE = 0.02; // level above which there is a voice
const PAUSE_MS = 400; // a shorter one belongs to the speech
const LOOK_MS = 20;

export class Figures {
  #call;
  #asked = null; // when the user pressed Enter
  #answering = false; // whether what sounds now is the answer, not the rest of the reply before
  #shown = []; // times of the pictures of the last second
  #before = null;

  constructor(call, video) {
    this.#call = call;
    const onPicture = (now) => {
      this.#shown.push(now);
      video.requestVideoFrameCallback(onPicture);
    };
    video.requestVideoFrameCallback(onPicture);
    setInterval(() => this.#update(), 1000);
  }

  // Listens to the voice and reports when it begins and ends; needs the user's permission to play sound.
  listen(stream, onVoice) {
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    analyser.fftSize = 512;
    context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let voiced = false;
    let lastHeard = 0;
    const look = () => {
      analyser.getFloatTimeDomainData(samples);
      const level = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
      const now = performance.now();
      if (level > VOICE) lastHeard = now;
      if (level > VOICE && this.#answering) {
        show("answer", `${((now - this.#asked) / 1000).toFixed(2)} s`);
        this.#answering = false;
        this.#asked = null;
      }
      if (voiced !== now - lastHeard < PAUSE_MS) onVoice((voiced = !voiced));
    };
    setInterval(look, LOOK_MS);
  }

  // Notes that the user asked for something now.
  ask() {
    this.#asked = performance.now();
    this.#answering = false;
  }

  // Notes that the avatar begins to speak.
  beginReply() {
    this.#answering = this.#asked !== null;
  }

  setVoiceDelay(ms) {
    show("voice-delay", `${ms} ms`);
  }

  async #update() {
    const now = performance.now();
    this.#shown = this.#shown.filter((time) => now - time <= 1000);
    show("fps", this.#shown.length ? `${this.#shown.length} fps` : "–");
    const stats = await this.#call.pictureStats();
    const before = this.#before;
    this.#before = stats;
    if (!stats || !before) return;
    const perPicture = (time, count) => (stats[time] - before[time]) / (stats[count] - before[count]);
    const seconds =
      perPicture("jitterBufferDelay", "jitterBufferEmittedCount") + perPicture("totalDecodeTime", "framesDecoded");
    show("picture-delay", Number.isFinite(seconds) ? `${Math.round(1000 * seconds)} ms` : "–");
  }
}

function show(id, text) {
  document.getElementById(id).textContent = text;
}
