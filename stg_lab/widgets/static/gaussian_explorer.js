// Guidance in the plane. All points of all scales are on board: nothing here asks a kernel.

const PLOTS = [
  ["modes", "Modes kept", "more: more varied"],
  ["strays", "Strays", "fewer: better"],
  ["width", "Width within a mode", "1 is right"],
];

class GaussianExplorer extends Explorer {
  static CLASS = "stg-gaussians";
  static LABEL = "Guidance in the plane";
  static STATE = ["weak", "scale", "level", "trails", "playing"];
  static HELP = [
    [".stg-group", "weak model", "The density that samples are pushed away from."],
    [".stg-tools:has(.stg-group) .stg-field", "Scale", "How far: guided = cond + scale (cond − weak). 0 is no guidance."],
    [".stg-field", "Noise level", "From pure noise to samples; the play button lowers it."],
    [".stg-trails", "Trails", "The way of each point from noise."],
    [".stg-picture", "The plane", "Blue is the density that was asked for, grey what was not. Points far from the blue are strays."],
    [".stg-column", "Charts", "The more modes are kept the more varied; the fewer strays the better; a width of 1 is right. Click to choose a scale."],
  ];

  dispose() {
    super.dispose();
    clearTimeout(this.timer);
  }

  // --- building, once -------------------------------------------------------------------------------------------

  build() {
    const { weak, scales, levels } = this.view;
    this.weak = this.choice("weak", weak.map((name) => [name, name]), "Weak model");
    this.scale = this.slide("Scale", scales.length - 1, (index) => this.set({ scale: scales[index] }));
    this.level = this.slide("Noise level", levels.length - 1, (level) => this.set({ level, playing: false }));
    this.play = this.button("stg-play", "", () => this.togglePlay());
    this.trails = this.button("stg-trails", "Trails", () => this.set({ trails: !this.get("trails") }));
    this.canvas = h("canvas", { class: "stg-plane", role: "img" });
    this.wrong = h("span", { class: "stg-wrong" }, "strays");
    this.said = h("div", { class: "stg-said", "aria-live": "polite" });
    this.plots = PLOTS.map(([name, title, hint]) => new LinePlot({ title: `${title} · ${hint}`, height: 148, label: title,
      xlabel: name === "width" ? "scale" : "", pick: (index) => this.set({ scale: scales[index] }) }));
    const key = (name) => h("kbd", {}, name);
    return [
      h("div", { class: "stg-head" }, h("span", { class: "stg-title" }, "Guidance in two dimensions"),
        h("span", { class: "stg-guidance" }, "cond + scale (cond − weak)")),
      h("div", { class: "stg-tools" }, h("span", { class: "stg-say" }, "weak model"), this.weak, this.scale.node),
      h("div", { class: "stg-tools" }, this.play, this.level.node, this.trails,
        h("span", { class: "stg-keys" }, key("←"), " ", key("→"), " scale   ", key("space"), " play")),
      h("div", { class: "stg-two" },
        h("figure", { class: "stg-picture" }, this.canvas, this.said),
        h("div", { class: "stg-column" }, ...this.plots.map((plot) => plot.node))),
    ];
  }

  slide(name, last, choose) {
    const input = h("input", { type: "range", min: 0, max: last, step: 1, "aria-label": name, input: this.guard(() => choose(+input.value)) });
    const value = h("b", {});
    return { input, value, node: h("label", { class: "stg-field" }, name, input, value) };
  }

  // --- answering ------------------------------------------------------------------------------------------------

  onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === " " && event.target.tagName !== "BUTTON") this.togglePlay();
    else if (by && event.target.type !== "range") {
      const { scales } = this.view;
      const index = scales.indexOf(this.get("scale")) + by;
      this.set({ scale: scales[Math.min(Math.max(index, 0), scales.length - 1)] });
    } else return;
    event.preventDefault();
  }

  togglePlay() {
    const playing = !this.get("playing");
    const ended = this.get("level") === this.view.levels.length - 1;
    this.set({ playing, level: playing && ended ? 0 : this.get("level") });
  }

  // --- showing --------------------------------------------------------------------------------------------------

  refresh() {
    const { weak, scales, levels } = this.view;
    [this.w, this.s, this.l] = [weak.indexOf(this.get("weak")), scales.indexOf(this.get("scale")), this.get("level")];
    const sigma = short(levels[this.l]);
    this.weak.update();
    Object.assign(this.scale.input, { value: this.s }).setAttribute("aria-valuetext", `scale ${scales[this.s]}`);
    Object.assign(this.level.input, { value: this.l }).setAttribute("aria-valuetext", `sigma ${sigma}`);
    this.scale.value.textContent = scales[this.s];
    this.level.value.textContent = `σ ${sigma}`;
    this.trails.setAttribute("aria-pressed", String(this.get("trails")));
    this.play.replaceChildren(icon(this.get("playing") ? "pause" : "play"), this.get("playing") ? "Pause" : "Play");
    this.layout();
    this.run();
  }

  layout() {
    if (this.s === undefined) return;
    this.root.classList.toggle("stg-narrow", this.root.clientWidth < 640);
    this.drawPlots();
    this.paint();
  }

  drawPlots() {
    const { weak, scales, colours, modes } = this.view;
    const highest = { modes: modes * 1.05, strays: 1.02, width: 8 };
    PLOTS.forEach(([name], k) => {
      const high = highest[name];
      const series = weak.map((label, i) => ({ label, colour: colours[i], y: [...this.arrays.at(name, i)].map((y) => (y > high ? NaN : y)), dash: i === this.w ? "" : "3 4" }));
      this.plots[k].draw({ x: scales, series, cursor: this.s, low: 0, high, mark: name === "width" ? 1 : null });
      this.plots[k].legend.hidden = k > 0; // one legend speaks for all three
    });
    const found = (name) => this.arrays.at(name, this.w)[this.s];
    this.said.replaceChildren(h("b", {}, `${(100 * found("strays")).toFixed(0)} %`), " ", this.wrong, "   ",
      h("b", {}, found("modes").toFixed(1)), ` of ${modes} modes   width `, h("b", {}, found("width").toFixed(2)));
    this.canvas.setAttribute("aria-label", `Samples at scale ${scales[this.s]} away from ${weak[this.w]}: ${this.said.textContent}`);
  }

  paint() {
    const { extent } = this.view;
    const side = Math.round(this.canvas.clientWidth * (window.devicePixelRatio || 1));
    if (!side) return;
    if (this.canvas.width !== side) Object.assign(this.canvas, { width: side, height: side });
    const context = this.canvas.getContext("2d");
    const toX = (x) => ((x + extent) / (2 * extent)) * side;
    const toY = (y) => ((extent - y) / (2 * extent)) * side;
    context.clearRect(0, 0, side, side);
    context.drawImage(this.ground(), 0, 0, side, side);
    const { data, shape, scale } = this.arrays.get("points");
    const count = shape[3];
    const at = (level) => ((this.w * shape[1] + this.s) * shape[2] + level) * count * 2;
    const stray = this.arrays.at("stray", this.w, this.s);
    const [ink, wrongInk] = [this.root, this.wrong].map((node) => getComputedStyle(node).color);
    const dot = side / 220;
    if (this.get("trails")) {
      Object.assign(context, { strokeStyle: ink, globalAlpha: 0.16, lineWidth: dot / 2 });
      context.beginPath();
      for (let i = 0; i < count; i += 3) {
        for (let level = 0; level <= this.l; level++) {
          const from = at(level) + 2 * i;
          context[level ? "lineTo" : "moveTo"](toX(data[from] * scale), toY(data[from + 1] * scale));
        }
      }
      context.stroke();
      context.globalAlpha = 1;
    }
    for (const wrong of [0, 1]) { // strays last, on top
      context.fillStyle = wrong ? wrongInk : ink;
      for (let i = 0; i < count; i++) {
        if (stray[i] !== wrong) continue;
        const from = at(this.l) + 2 * i;
        context.fillRect(toX(data[from] * scale) - dot / 2, toY(data[from + 1] * scale) - dot / 2, dot, dot);
      }
    }
  }

  /** The densities as tints, painted once: blue for what was asked for, grey for the rest. */
  ground() {
    if (this.tints) return this.tints;
    const [high, wide] = this.arrays.get("truth").shape;
    this.tints = h("canvas", { width: wide, height: high });
    const pixels = new ImageData(wide, high);
    const rest = this.view.arrays.other ? this.arrays.get("other").data : null;
    this.arrays.get("truth").data.forEach((level, i) => {
      const grey = rest ? rest[i] : 0;
      pixels.data.set(level >= grey ? [60, 150, 220, 0.75 * level] : [128, 128, 128, 0.6 * grey], 4 * i);
    });
    this.tints.getContext("2d").putImageData(pixels, 0, 0);
    return this.tints;
  }

  /** Lower the noise by itself, and rest a while at the samples. */
  run() {
    clearTimeout(this.timer);
    if (!this.get("playing")) return;
    const last = this.view.levels.length - 1;
    this.timer = setTimeout(() => this.set({ level: this.l === last ? 0 : this.l + 1 }), this.l === last ? 1400 : 140);
  }
}

const render = renderer(GaussianExplorer);
export default { render };
