// Live figures, all measured: in this page, except the voice delay, which the pipeline measures.

const HEARD = 0.02; // level above which there is a voice

export class Figures {
  #call;
  #analyser = null;
  #asked = null; // when the user pressed Enter
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

  // Listens to the voice; needs the user's permission to play sound.
  listen(stream, onLevel) {
    const context = new AudioContext();
    this.#analyser = context.createAnalyser();
    this.#analyser.fftSize = 512;
    context.createMediaStreamSource(stream).connect(this.#analyser);
    const samples = new Float32Array(this.#analyser.fftSize);
    const look = () => {
      this.#analyser.getFloatTimeDomainData(samples);
      const level = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
      if (level > HEARD && this.#asked !== null) {
        show("answer", `${((performance.now() - this.#asked) / 1000).toFixed(2)} s`);
        this.#asked = null;
      }
      onLevel(level);
    };
    setInterval(look, 20);
  }

  // Notes that the user asked for something now.
  ask() {
    this.#asked = performance.now();
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
