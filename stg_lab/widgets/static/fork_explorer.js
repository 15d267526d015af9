// The fork explorer: a recorded run and runs that leave it, side by side.

class ForkExplorer extends Working {
  static CLASS = "stg-fork";
  static LABEL = "Sample on from a recorded step";
  static STATE = ["step", "sample", "layers", "part", "axis", "stg", "cfg", "shown", "playing", "frame", "gain", "made", "size"];
  static HELP = [
    [".stg-layers", "layers", "Blocks that the weak model skips, such as 5 or 3-5,8."],
    [".stg-part", "part", "What is skipped in them: the whole block, or its attention, or its feed-forward part."],
    [".stg-axis", "axis", "Along what attention is skipped: all tokens, space alone, or time alone."],
    ["input.stg-stg", "STG", "Scale of the weak model’s vector; 0 leaves it out."],
    ["input.stg-cfg", "CFG", "Scale of classifier-free guidance; 1 is off."],
    [".stg-start", "Sample on", "Goes on from exactly the noisy video of this step, under this guidance."],
    [".stg-gain", "± gain", "What the difference is multiplied by."],
    [".stg-stage", "The videos", "The recorded run, the fork, and fork less original around grey."],
  ];

  prepare() {
    super.prepare();
    Object.assign(this, { frame: 0, players: {}, clips: {} });
  }

  // --- building, once -------------------------------------------------------------------------------------------

  build() {
    this.list = h("div", { class: "stg-forks", role: "group", "aria-label": "Forks" });
    this.rule = h("div", { class: "stg-rule" }, "Forks");
    const [choice, work] = [this.buildChoice(), this.buildWork("", () => this.set({ asked: this.get("asked") + 1 }))];
    this.starter.after(this.sum);
    return [this.buildHead("Fork: sample on from a recorded step"), this.buildSteps(), choice, work, this.buildStage(), this.rule, this.list];
  }

  buildChoice() {
    const { parts, axes } = this.view;
    this.layers = h("input", { class: "stg-layers", type: "text", size: 7, spellcheck: "false", "aria-label": "Layers, such as 5 or 3-5,8",
      input: () => this.set({ layers: this.layers.value.trim() }) });
    this.part = this.buildSelect("part", parts);
    this.axis = this.buildSelect("axis", axes);
    this.scales = ["stg", "cfg"].map((name) => this.buildScale(name, name === "stg" ? [0, 6, 0.25] : [1, 12, 0.5]));
    this.sum = h("code", { class: "stg-sum" });
    const field = (name, ...inner) => h("label", { class: "stg-field" }, name, ...inner);
    return h("div", { class: "stg-choice" }, field("layers", this.layers), field("part", this.part), field("axis", this.axis),
      ...this.scales.map(({ node }) => node));
  }

  buildSelect(name, options) {
    const select = h("select", { class: `stg-${name}`, "aria-label": name, change: () => this.set({ [name]: select.value }) },
      ...options.map((option) => h("option", { value: option }, option)));
    return select;
  }

  buildScale(name, [min, max, step]) {
    const value = h("b");
    const input = h("input", { class: `stg-${name}`, type: "range", min, max, step, "aria-label": `${name.toUpperCase()} scale`,
      input: () => this.set({ [name]: +input.value }) });
    return { name, input, value, node: h("label", { class: "stg-field" }, name.toUpperCase(), input, value) };
  }

  buildStage() {
    this.play = this.button("stg-play", "", () => this.togglePlay());
    this.louder = this.button("stg-gain", "", () => this.set({ gain: { 1: 2, 2: 4, 4: 8 }[this.get("gain")] ?? 1 }));
    const cards = ["original", "fork", "difference"].map((name) => this.buildPlayer(name));
    return h("div", {}, h("div", { class: "stg-tools" }, this.play, this.louder,
      h("span", { class: "stg-keys" }, h("kbd", {}, "←"), " ", h("kbd", {}, "→"), " step   ", h("kbd", {}, "space"), " play")),
    h("div", { class: "stg-stage" }, ...cards));
  }

  buildPlayer(name) {
    const canvas = h("canvas", { class: "stg-screen", role: "img", "aria-label": name });
    const [title, note, empty] = [h("span", { class: "stg-name" }, name), h("span", { class: "stg-note" }), h("span", { class: "stg-empty" })];
    const node = h("figure", { class: "stg-player", "data-player": name }, h("div", { class: "stg-frame" }, canvas, empty),
      h("figcaption", { class: "stg-label" }, title, note));
    const colour = { original: this.view.colour, fork: this.view.fork_colour }[name];
    if (colour) node.style.setProperty("--stg-accent", ink(colour));
    this.players[name] = { canvas, title, note, empty, node };
    return node;
  }

  onKey(event) {
    const on = event.target;
    if (on.type === "text") return;
    if (event.key === " " && on.tagName !== "BUTTON" && on.tagName !== "SELECT") {
      this.togglePlay();
      event.preventDefault();
      return;
    }
    super.onKey(event);
  }

  // --- showing --------------------------------------------------------------------------------------------------

  async refresh() {
    const [sample, shown, made] = [this.get("sample"), this.get("shown"), this.get("made") ?? []];
    this.showControls(shown, made);
    const now = Boolean(this.get("running")) && shown >= made.length;
    const fork = made[shown];
    const wanted = {
      guided: ["guided", this.sheets, null],
      original: ["original", this.sheets, this.view.final],
      fork: now ? ["now", this.moving, this.get("size")] : fork ? [`fork${shown}`, this.sheets, fork.size] : null,
    };
    const clips = {};
    for (const [name, found] of Object.entries(wanted)) {
      if (!found || !this.get(found[1].trait)?.[`${found[0]}/${sample}`]) continue;
      await found[1].load(found[0], sample);
      clips[name] = { context: found[1].get(found[0], sample), size: found[2] };
    }
    if (sample !== this.get("sample") || shown !== this.get("shown")) return; // another choice has its own refresh
    Object.assign(this, { sample, clips });
    this.caption(now, fork, clips);
    this.root.dataset.ready = "true";
    if (!this.get("playing")) this.frame = Math.min(this.get("frame"), this.frames - 1);
    this.layout();
    this.run();
  }

  showControls(shown, made) {
    this.showSteps();
    this.showWork();
    if (this.live) this.starter.textContent = `Sample on from step ${this.get("step")}`;
    else this.starter.textContent = "Sample on";
    if (document.activeElement !== this.layers) this.layers.value = this.get("layers");
    this.part.value = this.get("part");
    this.axis.value = this.get("axis");
    for (const { name, input, value } of this.scales) {
      input.value = this.get(name);
      value.textContent = `${+this.get(name).toFixed(2)}`;
    }
    this.sum.textContent = this.sumText();
    const playing = this.get("playing");
    this.play.replaceChildren(icon(playing ? "pause" : "play"), playing ? "Pause" : "Play");
    this.louder.textContent = `± gain ×${this.get("gain")}`;
    this.rule.hidden = !made.length;
    this.list.replaceChildren(...made.map((fork, i) => this.chip(fork, i, i === shown)));
    this.suppress();
  }

  sumText() {
    const [stg, axis] = [this.get("stg"), this.get("axis")];
    const weak = `skip:${this.get("part")}:${this.get("layers")}${axis === "joint" ? "" : `@${axis}`}`;
    return `CFG(${+this.get("cfg").toFixed(2)})${stg ? ` + STG(${+stg.toFixed(2)}, ${weak})` : ""}`;
  }

  chip({ step, guidance, until }, i, pressed) {
    const cut = until === null || until === undefined ? "" : ` · cancelled at step ${until}`;
    return this.button("stg-chip", `${i}  from step ${step}: ${guidance}${cut}`, () => this.set({ shown: i }), { "aria-pressed": String(pressed) });
  }

  caption(now, fork, { original, fork: clip }) {
    const text = (name, note, empty) => {
      this.players[name].note.textContent = note;
      this.players[name].empty.textContent = empty;
    };
    const cut = fork && fork.until !== null && fork.until !== undefined;
    text("original", this.view.guidance, original ? "" : "the recorded run was cut off: no final video");
    text("fork", now ? `on its way: x0 of guided, ${this.get("status")}` : fork ? `from step ${fork.step}: ${fork.guidance}${cut ? `; cancelled, x0 of guided at step ${fork.until}` : ""}${fork.note ? `; ${fork.note}` : ""}`
      : "", clip ? "" : now ? "the first step is on its way" : "no fork yet");
    text("difference", "fork − original, grey = equal", this.pair ? "" : clip && original ? "of other sizes" : "–");
  }

  /** Original and fork, where they can be compared picture by picture. */
  get pair() {
    const { original, fork } = this.clips;
    const same = original && fork && ["frames", "width", "height"].every((name) => original.size[name] === fork.size[name]);
    return same ? [original, fork] : null;
  }

  /** How many frames play. */
  get frames() {
    return this.clips.original?.size.frames ?? this.clips.fork?.size.frames ?? 1;
  }

  layout() {
    const inner = (this.root.clientWidth || 900) - 32;
    const { width, height } = this.view.final.width ? this.view.final : this.view;
    const columns = inner < 520 ? 1 : 3;
    const tile = fitted(Math.min((inner - 16 * (columns - 1)) / columns, 320), width);
    this.root.style.setProperty("--stg-screen", `${tile}px`);
    this.root.style.setProperty("--stg-screen-high", `${(tile * height) / width}px`);
    if (this.clips.guided) this.paintRibbon("guided", this.sample);
    this.paint();
  }

  paint() {
    const { original, fork } = this.clips;
    this.draw("original", original && this.pixels(original));
    this.draw("fork", fork && this.pixels(fork));
    const pair = this.pair?.map((clip) => this.pixels(clip));
    if (pair) subtract(pair[1].data, pair[0].data, this.get("gain"));
    this.draw("difference", pair?.[1]);
  }

  pixels({ context, size: { frames, width, height } }) {
    const at = Math.round((this.frame * (frames - 1)) / Math.max(this.frames - 1, 1)); // a preview may have fewer frames
    return context.getImageData(Math.min(at, frames - 1) * width, 0, width, height);
  }

  draw(name, pixels) {
    const { canvas, node } = this.players[name];
    node.classList.toggle("stg-none", !pixels);
    if (!pixels) return;
    if (canvas.width !== pixels.width || canvas.height !== pixels.height) Object.assign(canvas, { width: pixels.width, height: pixels.height });
    canvas.dataset.frame = this.frame;
    canvas.getContext("2d", { willReadFrequently: true }).putImageData(pixels, 0, 0);
  }

  /** Keep all players at the same frame while they play. */
  run() {
    this.animate(this.get("playing"), this.frame, this.frames, (frame) => {
      this.frame = frame;
      this.paint();
    });
  }
}

const render = renderer(ForkExplorer);
export default { render };
