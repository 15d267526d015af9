// Blind pairs: two videos of one caption and seed, and one question about them. Which is which is known in the kernel alone.

const ANSWERS = new Set(["left", "right", "equal"]);
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "equal", "=": "equal", Backspace: "undo" };
const SIDES = ["left", "right"];

class BlindPairs extends Explorer {
  static SAVES = false; // nothing is to be told of what is rated
  static CLASS = "stg-blind";
  static LABEL = "Blind pairs: which video is better?";
  static STATE = ["question", "progress", "result", "playing", "heard", "sheets"];
  static HELP = [
    [".stg-blind-stage", "The pair", "Two videos of one caption and seed. Nothing here tells which setting made which."],
    [".stg-blind-aspects", "What is asked", "The questions of this pair, one at a time."],
    [".stg-blind-answers", "Answer", "Which is better in this respect. Equal is an answer, too."],
    [".stg-undo", "Undo", "Takes the last answer back."],
    [".stg-stop", "Stop", "Shows what the answers so far say; you can go on afterwards."],
  ];

  prepare() {
    Object.assign(this, { frame: 0, pair: null, canvases: {} });
    this.live = Boolean(this.model.widget_manager); // else a page without a kernel, where nothing can be answered
  }

  // --- building, once -------------------------------------------------------------------------------------------

  build() {
    this.status = h("span", { class: "stg-status", role: "status" });
    this.bar = h("i");
    this.answering = this.buildQuestion();
    this.told = h("div", { class: "stg-blind-result" });
    return [h("div", { class: "stg-head" }, h("span", { class: "stg-title" }, "Blind pairs"), this.status),
      h("div", { class: "stg-blind-bar", "aria-hidden": "true" }, this.bar), this.answering, this.told, this.buildTools()];
  }

  buildQuestion() {
    this.caption = h("div", { class: "stg-caption-line" });
    this.stage = h("div", { class: "stg-blind-stage" }, ...SIDES.map((side) => this.buildScreen(side)));
    this.aspects = h("ol", { class: "stg-blind-aspects", "aria-label": "What is asked of this pair" });
    this.words = h("div", { class: "stg-blind-words", "aria-live": "polite" });
    this.note = h("div", { class: "stg-blind-note" });
    this.answers = [["left", "← Left"], ["equal", "Equal"], ["right", "Right →"]].map(([what, text]) =>
      this.button(`stg-answer stg-answer-${what}`, text, () => this.say(what)));
    return h("div", {}, this.caption, this.stage, this.aspects, this.words,
      h("div", { class: "stg-blind-answers", role: "group", "aria-label": "Answer" }, ...this.answers), this.note);
  }

  buildScreen(side) {
    this.canvases[side] = h("canvas", { role: "img", "aria-label": `The video on the ${side}` });
    return this.canvases[side];
  }

  buildTools() {
    this.play = this.button("stg-play", "", () => this.set({ playing: !this.get("playing") }));
    this.undo = this.button("stg-undo", "Undo", () => this.say("undo"));
    this.stopper = this.button("stg-stop", "", () => this.say(this.get("result") ? "go on" : "stop"));
    this.keys = h("span", { class: "stg-keys" }, h("kbd", {}, "←"), " left   ", h("kbd", {}, "↓"), " equal   ", h("kbd", {}, "→"), " right   ",
      h("kbd", {}, "⌫"), " undo   ", h("kbd", {}, "space"), " play");
    return h("div", { class: "stg-tools" }, this.play, this.undo, this.stopper, this.keys);
  }

  // --- answering ------------------------------------------------------------------------------------------------

  /** Whether the kernel has not yet dealt with what was said last: two quick presses are one answer. */
  get waits() {
    return (this.get("given")?.count ?? 0) !== this.get("heard");
  }

  say(what) {
    const { number } = this.get("question");
    const over = Boolean(this.get("result"));
    if (!this.live || this.waits || (what === "undo" && !this.get("progress")) || (over && ANSWERS.has(what))) return;
    this.set({ given: { count: this.get("heard") + 1, do: what, number: number ?? -1 } });
    this.enable();
  }

  onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === " " && event.target.tagName !== "BUTTON") this.set({ playing: !this.get("playing") });
    else if (KEYS[event.key]) {
      if (!event.repeat) this.say(KEYS[event.key]);
    } else return;
    event.preventDefault();
    event.stopPropagation(); // a notebook has uses of its own for these keys
  }

  // --- showing --------------------------------------------------------------------------------------------------

  async refresh() {
    const [asked, result, pair] = [this.get("question"), this.get("result"), this.get("question").pair];
    if (!result) await Promise.all(SIDES.map((side) => this.sheets.load(side, pair)));
    if (asked !== this.get("question")) return; // another question has its own refresh
    if (pair !== this.pair) {
      Object.assign(this, { pair, frame: 0 });
      for (const key of this.sheets.ready.keys()) if (!key.endsWith(`/${pair}`)) this.sheets.ready.delete(key); // videos are large
    }
    const [done, { total }] = [this.get("progress"), this.view];
    this.bar.style.width = `${(100 * done) / total}%`;
    this.answering.hidden = Boolean(result);
    this.told.hidden = !result;
    this.told.innerHTML = result; // written by the kernel, where every name in it is escaped
    if (result) this.status.textContent = done < total ? `stopped after ${done} of ${total} questions` : `all ${total} questions answered`;
    else this.showQuestion(asked);
    this.enable();
    this.run();
  }

  showQuestion({ caption, aspect, words, pair, shrink }) {
    this.status.textContent = `pair ${pair + 1} of ${this.view.pairs} · ${this.get("progress")} of ${this.view.total} questions answered`;
    this.caption.textContent = caption ? `“${caption}”` : "";
    const asked = this.view.aspects.filter((name) => caption || name !== "match to caption");
    this.aspects.replaceChildren(...asked.map((name) => h("li", { "aria-current": name === aspect ? "step" : null }, name)));
    this.words.textContent = words;
    this.note.textContent = [this.live ? "" : "Answering needs a running notebook.", shrink > 1 ? `Shown at 1/${shrink} of their size.` : "", this.view.note]
      .filter(Boolean).join(" ");
    this.layout();
  }

  enable() {
    const [result, playing] = [this.get("result"), this.get("playing")];
    for (const button of this.answers) {
      button.disabled = !this.live;
      button.setAttribute("aria-disabled", String(!this.live || this.waits)); // disabled for a moment, it would lose the focus
    }
    this.undo.disabled = !this.live || !this.get("progress");
    this.stopper.hidden = Boolean(result) && this.get("progress") >= this.view.total;
    this.stopper.textContent = result ? "Go on" : "Stop and show the result";
    this.stopper.disabled = !this.live;
    this.play.hidden = Boolean(result);
    this.play.replaceChildren(icon(playing ? "pause" : "play"), playing ? "Pause" : "Play");
    this.keys.hidden = Boolean(result);
  }

  layout() {
    const { size } = this.get("question");
    if (!size) return;
    const inner = (this.root.clientWidth || 900) - 32;
    const tile = fitted(Math.max(Math.min((inner - 28) / 2, 420), 40), size.width);
    this.root.classList.toggle("stg-narrow", inner < 640);
    this.stage.classList.toggle("stg-small", tile < size.width);
    this.root.style.setProperty("--stg-screen", `${tile}px`);
    this.root.style.setProperty("--stg-screen-high", `${(tile * size.height) / size.width}px`);
    this.paint();
  }

  paint() {
    const { size, pair } = this.get("question");
    if (!size) return;
    for (const side of SIDES) {
      const [canvas, from] = [this.canvases[side], this.sheets.get(side, pair)];
      if (!from) continue;
      if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, { width: size.width, height: size.height });
      canvas.dataset.frame = this.frame;
      canvas.getContext("2d", { willReadFrequently: true }).drawImage(from.canvas, -this.frame * size.width, 0);
    }
  }

  /** Both videos run together, over and over. */
  run() {
    const frames = this.get("question").size?.frames ?? 1;
    this.animate(this.get("playing") && !this.get("result"), this.frame, frames, (frame) => {
      this.frame = frame;
      this.paint();
    });
  }
}

const render = renderer(BlindPairs);
export default { render };
