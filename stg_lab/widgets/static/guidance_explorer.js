// The guidance explorer. Pictures of `cond` and of every vector are on board unclipped; x0 is linear in the predictions, so
// their weighted sum is the picture of any scales. Rescaling multiplies the prediction by one number from covariances.

const ROW_NOISY = 0, ROW_COND = 1, ROW_FIRST = 2; // rows of `pictures`; in `mean` and `covariance` cond is 0, vectors follow
const TILES = 13; // a strip shows at most so many frames

class GuidanceExplorer extends Explorer {
  static CLASS = "stg-gv";
  static LABEL = "Guidance vectors by step";
  static STATE = ["step", "sample", "frame", "playing", "scales", "rescale", "panel", "onto", "common"];
  static HELP = [
    [".stg-gv-row", "Scales", "What the vector is multiplied by in the sum; the picture follows, exact for this step."],
    [".stg-as-recorded", "As recorded", "Back to the scales that the run used."],
    [".stg-all-off", "All off", "No guidance: the picture is the conditional prediction."],
    [".stg-gv-facts", "std, push", "The standard deviation of the guided prediction against that of cond, and how long all vectors together are."],
    [".stg-frame", "Frame", "Which frame of the video is shown."],
    [".stg-gv-strips", "Where each vector points", "How much each pixel of the prediction changes, frame by frame: bright is much. Click a frame to show it above."],
    [".stg-common", "One range", "Colours mean the same in every strip, so that lengths can be compared; else each strip has its own range."],
    [".stg-panel", "Lengths, Parts, Spectra", "How long each vector is over the steps, how much of it lies along cond, and which sizes and speeds it is made of."],
    [".stg-onto", "Parts along", "The direction that a vector is split by: the part along it, and the rest."],
  ];

  prepare() {
    const { frames, curves } = this.view;
    this.now = this.get("frame"); // while it plays, the frame runs ahead of the trait
    const tiles = Math.min(frames, TILES);
    this.shown = Array.from({ length: tiles }, (_, i) => (tiles === 1 ? 0 : Math.round((i * (frames - 1)) / (tiles - 1))));
    this.push = curves.findIndex((curve) => curve.name === "guided");
  }

  // --- building, once -------------------------------------------------------------------------------------------

  build() {
    const { note } = this.view;
    return [this.buildHead("Guidance vectors"), this.buildSteps(), note ? h("div", { class: "stg-say" }, `Shown: ${note}.`) : null,
      h("div", { class: "stg-gv-title" }, "Move the scales",
        h("span", { class: "stg-say stg-gv-exact" }, "exact for this step; not the trajectory that these scales would have taken")),
      h("div", { class: "stg-gv-mix" }, this.buildControls(), this.buildCards()),
      h("div", { class: "stg-gv-lower" },
        h("div", {}, h("div", { class: "stg-gv-title" }, "Where each vector points", this.buildCommon(),
          h("span", { class: "stg-say" }, "change of a pixel of x", h("sub", {}, "0"), " at weight 1, RMS over red, green, blue; colours end at the 99th percentile",
            this.shown.length < this.view.frames ? ` · ${framesText(this.shown.length, this.view.frames)}` : null)), this.buildStrips()),
        h("div", {}, h("div", { class: "stg-gv-title" }, "What it is made of", this.buildPanels()), this.buildCharts()))];
  }

  buildControls() {
    this.sliders = this.view.vectors.map((vector, i) => this.buildSlider({ ...vector, id: vector.name, trait: (value) => ({ scales: { ...this.scales(), [vector.name]: value } }) }, i));
    this.phi = this.buildSlider({ id: "rescale", label: "Rescale", note: "φ, 0 is off: pulls the standard deviation back to that of cond (Alg. 4)", low: 0, high: 1, trait: (value) => ({ rescale: value }) });
    const off = () => this.set({ scales: Object.fromEntries(this.view.vectors.map((v) => [v.name, v.off])), rescale: 0 });
    this.facts = h("div", { class: "stg-gv-facts" });
    return h("div", { class: "stg-gv-controls" }, ...this.sliders.map((s) => s.node), this.phi.node,
      h("div", { class: "stg-gv-buttons" },
        this.button("stg-as-recorded", "As recorded", () => this.set({ scales: {}, rescale: this.view.phi })),
        this.button("stg-all-off", "All off", off)), this.facts);
  }

  buildSlider({ id, label, note, low, high, colour, trait }) {
    const input = h("input", { type: "range", min: low, max: high, step: 0.05, class: "stg-scale-slider", "data-vector": id,
      "aria-label": `${label}: ${note}`, input: this.guard(() => this.set(trait(+input.value))) });
    const [value, said] = [h("b", {}), h("span", { class: "stg-note" }, note)];
    const node = h("div", { class: "stg-gv-row" }, h("label", {}, h("span", { class: "stg-name" }, label), said), input, value);
    if (colour) node.style.setProperty("--stg-accent", ink(colour));
    return { node, input, value, said, note, label };
  }

  buildCards() {
    const card = (name, title) => {
      const canvas = h("canvas", { width: this.view.width, height: this.view.height, role: "img" });
      canvas.style.aspectRatio = `${this.view.width} / ${this.view.height}`;
      const said = h("span", {}, "");
      const node = h("figure", { class: `stg-gv-card stg-gv-${name}` }, h("figcaption", { title }, title), canvas, said);
      return { canvas, said, node, title, context: canvas.getContext("2d", { willReadFrequently: true }) };
    };
    this.cards = { cond: card("cond", "cond"), yours: card("yours", "guided, your scales"), recorded: card("recorded", "guided, as recorded") };
    this.cards.recorded.node.hidden = this.view.recorded !== "guided";
    this.framer = h("input", { type: "range", min: 0, max: this.view.frames - 1, step: 1, class: "stg-frame", "aria-label": "Frame",
      input: () => this.set({ frame: +this.framer.value, playing: false }) });
    this.frameName = h("output", {});
    this.play = this.button("stg-play", "", () => this.set({ playing: !this.get("playing"), frame: this.now }));
    return h("div", { class: "stg-gv-cards" }, h("div", { class: "stg-gv-pictures" }, ...Object.values(this.cards).map((c) => c.node)),
      h("div", { class: "stg-gv-frame" }, this.play, this.framer, this.frameName));
  }

  buildCommon() {
    this.commonly = this.button("stg-common", "One range for all", () => this.set({ common: !this.get("common") }));
    return this.commonly;
  }

  buildStrips() {
    const strip = (name, label, colour) => {
      const tiles = this.shown.map((frame) => h("canvas", { width: this.view.width, height: this.view.height, role: "img",
        "aria-label": `${label}, frame ${frame}`, "data-frame": frame, click: this.guard(() => this.set({ frame, playing: false })) }));
      const most = h("span", { class: "stg-gv-most" });
      const node = h("div", { class: "stg-gv-strip", "data-strip": name }, h("div", { class: "stg-label" }, h("span", { class: "stg-name" }, label)),
        h("div", { class: "stg-gv-tiles" }, ...tiles), most);
      if (colour) node.style.setProperty("--stg-accent", ink(colour));
      return { name, node, tiles, most };
    };
    this.strips = [strip("cond", "cond, the picture", "#000000"), ...this.view.vectors.map((v) => strip(v.name, v.name === "uncond" ? "CFG's vector" : `cond − ${v.name}`, v.colour)),
      strip("sum", "your push, scales included", null)];
    return h("div", { class: "stg-gv-strips" }, ...this.strips.map((one) => one.node));
  }

  buildPanels() {
    this.panels = this.choice("panel", [["lengths", "Lengths"], ["parts", "Parts"], ["spectra", "Spectra"]], "Charts");
    const options = [["cond", "cond"], ["x0", "x0 of cond"]];
    if (this.view.vectors.some((v) => v.name === "uncond")) options.push(["cfg", "CFG's vector"]);
    this.ontos = this.choice("onto", options, "Parts along");
    return h("span", { class: "stg-field" }, this.panels, this.ontos);
  }

  buildCharts() {
    const pick = (step) => this.set({ step });
    const plot = (title, xlabel, ylabel, more = {}) => new LinePlot({ title, xlabel, ylabel, ...more });
    this.charts = {
      lengths: [plot("Over the steps", "step", "RMS", { pick }), plot("Per frame, at this step", "latent frame", "RMS"),
        plot("Per channel, at this step", "latent channel", "RMS")],
      parts: [plot("Along it (below 0: against it)", "step", "signed RMS", { pick }), plot("Orthogonal to it", "step", "RMS", { pick })],
      spectra: [plot("Over space, at this step", "cycles per latent pixel", "log₁₀ power a mode"),
        plot("Over time, at this step (0: what stays)", "cycles per latent frame", "log₁₀ power a mode")],
    };
    this.groups = Object.fromEntries(Object.entries(this.charts).map(([name, plots]) =>
      [name, h("div", { class: "stg-plots", "data-panel": name }, ...plots.map((one) => one.node))]));
    this.board = h("div", {});
    return this.board;
  }

  // --- the sum -----------------------------------------------------------------------------------------------------

  /** The scale of every vector at the step: the reader's, or the recorded one. */
  scales() {
    const [step, given] = [this.get("step"), this.get("scales")];
    return Object.fromEntries(this.view.vectors.map((v) => [v.name, given[v.name] ?? v.recorded[step]]));
  }

  /** Weights over cond and the vectors, the factor of rescaling, and what they say of the prediction. */
  mix() {
    const [step, sample, scales] = [this.get("step"), this.get("sample"), this.scales()];
    const weights = [1, ...this.view.vectors.map((v) => (v.computed[step] ? scales[v.name] - v.off : 0))];
    const place = this.view.curves.map((curve) => 1 + this.view.vectors.findIndex((v) => v.name === curve.name));
    const covariance = (a, b) => this.arrays.at("covariance", a, b, step, sample)[0];
    const mean = (a) => this.arrays.at("mean", a, step, sample)[0];
    /** Weights by row of the table, where the whole push has a row too; rows without weight may hold no numbers. */
    const table = (list, push = 0) => [list[0], ...this.view.curves.map((_, i) => (i === this.push ? push : list[place[i]]))];
    const total = (rows, of) => rows.reduce((sum, w, a) => (w ? sum + w * of(a) : sum), 0);
    const variance = (rows) => Math.max(total(rows, (a) => total(rows, (b) => covariance(a, b))), 0);
    const rms = (rows) => Math.sqrt(variance(rows) + total(rows, mean) ** 2);
    const [cond, plain] = [Math.sqrt(covariance(0, 0)), Math.sqrt(variance(table(weights)))];
    const phi = this.get("rescale");
    const factor = plain > 0 ? phi * (cond / plain) + 1 - phi : 1;
    const scaled = weights.map((w) => w * factor);
    const away = [scaled[0] - 1, ...scaled.slice(1)];
    return { weights, factor, std: factor * plain, condStd: cond, push: rms(table(away)), cond: rms(table([1, ...weights.slice(1).fill(0)])),
      apart: this.push < 0 ? NaN : rms(table(away, -1)) };
  }

  /** Unclipped values of the picture under weights and a factor, all frames. */
  add(weights, factor, noisy = 1 - factor) {
    const { data, shape, scale } = this.arrays.get("pictures");
    const [step, sample, length] = [this.get("step"), this.get("sample"), shape.slice(3).reduce((a, b) => a * b, 1)];
    const sum = new Float64Array(length);
    [noisy, ...weights.map((w) => w * factor)].forEach((w, row) => {
      if (!w) return;
      const unit = w * scale * this.arrays.at("unit", row, step, sample)[0];
      const from = ((row * shape[1] + step) * shape[2] + sample) * length;
      for (let i = 0; i < length; i++) sum[i] += unit * data[from + i];
    });
    return sum;
  }

  // --- showing -----------------------------------------------------------------------------------------------------

  async refresh() {
    const sample = this.get("sample");
    await this.sheets.load(this.view.recorded, sample);
    if (sample !== this.get("sample")) return; // another one was chosen meanwhile, and has its own refresh
    if (!this.get("playing")) this.now = this.get("frame");
    this.showSteps();
    this.paintRibbon(this.view.recorded, sample);
    this.paintMix();
    this.paintStrips();
    this.paintCharts();
    this.run();
  }

  layout() {
    const wide = this.root.clientWidth >= 1000;
    this.root.classList.toggle("stg-narrow", this.root.clientWidth < 620);
    this.root.classList.toggle("stg-wide", wide);
    Object.values(this.charts).flat().forEach((plot) => (plot.height = wide ? 150 : 170));
    if (!this.root.dataset.ready) return;
    this.paintRibbon(this.view.recorded, this.get("sample"));
    this.paintCharts();
  }

  paintMix() {
    const [step, given, scales] = [this.get("step"), this.get("scales"), this.scales()];
    this.view.vectors.forEach((vector, i) => {
      const { node, input, value, said, note } = this.sliders[i];
      const there = vector.computed[step];
      input.disabled = !there;
      node.classList.toggle("stg-off", !there);
      input.value = scales[vector.name];
      value.textContent = there ? +scales[vector.name].toFixed(2) : "–";
      const moved = given[vector.name] !== undefined && given[vector.name] !== vector.recorded[step];
      said.textContent = there ? `${note}${moved ? ` (recorded: ${+vector.recorded[step].toFixed(2)})` : ""}` : "not computed at this step";
    });
    this.phi.input.value = this.get("rescale");
    this.phi.value.textContent = +this.get("rescale").toFixed(2);
    const mixed = (this.mixed = this.mix());
    this.sums = { cond: this.add([1], 1), yours: this.add(mixed.weights, mixed.factor) };
    const row = (name, text) => [h("span", {}, name), h("b", {}, text)];
    this.facts.replaceChildren(
      ...row("std of the prediction", `${mixed.std.toFixed(3)} = ${(mixed.std / mixed.condStd).toFixed(2)} × cond's`),
      ...row("length of the push", `RMS ${mixed.push.toFixed(3)} = ${(mixed.push / mixed.cond).toFixed(2)} × cond`),
      ...row("rescaling multiplies by", mixed.factor.toFixed(3)),
      ...(this.push < 0 ? [] : row("from the recorded one", `RMS ${mixed.apart.toFixed(2)}`)));
    this.paintCards();
  }

  paintCards() {
    const { width, height } = this.view;
    const length = width * height * 3;
    for (const name of ["cond", "yours"]) {
      const [{ context, said, canvas, title }, sum] = [this.cards[name], this.sums[name]];
      context.putImageData(picture(sum.subarray(this.now * length, (this.now + 1) * length), width, height), 0, 0);
      said.textContent = `${percent(clipped(sum))} of values clipped`;
      canvas.setAttribute("aria-label", `${title}, frame ${this.now}`);
    }
    const { context, canvas, title, said } = this.cards.recorded;
    if (this.view.recorded === "guided") {
      const from = this.sheets.get("guided", this.get("sample"));
      context.putImageData(from.getImageData(this.now * width, this.get("step") * height, width, height), 0, 0);
      canvas.setAttribute("aria-label", `${title}, frame ${this.now}`);
      said.textContent = "what the sampler used";
    }
    this.framer.value = this.now;
    this.frameName.textContent = `frame ${this.now} of 0–${this.view.frames - 1}`;
    const playing = this.get("playing");
    this.play.replaceChildren(icon(playing ? "pause" : "play"), playing ? "Pause" : "Play");
    this.strips.forEach((strip) => strip.tiles.forEach((tile) => tile.classList.toggle("stg-chosen", +tile.dataset.frame === this.now)));
  }

  /** The strips; while only scales move, those of single vectors stay as they are. */
  paintStrips() {
    const { vectors } = this.view;
    const [step, common] = [this.get("step"), this.get("common")];
    const alone = (row) => [0, ...vectors.map((_, i) => +(i === row))];
    const at = `${step}/${this.get("sample")}`;
    if (this.heats?.at !== at) {
      const found = vectors.map((v, i) => (v.computed[step] ? heat(this.add(alone(i), 1, 0)) : null));
      this.heats = { at, found, most: found.map(highest) };
    }
    const push = heat(this.sums.yours.map((value, i) => value - this.sums.cond[i]));
    const all = Math.max(...this.heats.most);
    this.commonly.setAttribute("aria-pressed", String(common));
    const [last, painted] = [this.strips.length - 1, `${at}/${common}`];
    this.strips.forEach((strip, i) => {
      if (i === last) this.paintStrip(strip, push, highest(push));
      else if (this.stripsOf !== painted) this.paintStrip(strip, i ? this.heats.found[i - 1] : undefined, common ? all : this.heats.most[i - 1]);
    });
    this.stripsOf = painted;
  }

  /** One strip: heat over the grey picture; without numbers at this step (null) the grey picture, or (undefined) the picture itself. */
  paintStrip(strip, values, most) {
    const { width, height } = this.view;
    const [length, high] = [width * height, most || 1];
    strip.node.classList.toggle("stg-missing", values === null);
    strip.tiles.forEach((tile) => {
      const frame = +tile.dataset.frame;
      const pixels = picture(this.sums.cond.subarray(frame * length * 3, (frame + 1) * length * 3), width, height);
      if (values !== undefined) glow(pixels.data, values?.subarray(frame * length, (frame + 1) * length), high);
      tile.getContext("2d").putImageData(pixels, 0, 0);
    });
    if (values !== undefined) strip.most.replaceChildren(!values ? "not computed" : most ? colourBar(0, high) : "nothing");
  }

  paintCharts() {
    const [panel, step, sample] = [this.get("panel"), this.get("step"), this.get("sample")];
    const drawn = [panel, step, sample, this.get("onto"), this.root.clientWidth].join("/");
    if (this.chartsOf === drawn) return; // scales move nothing here
    this.chartsOf = drawn;
    this.panels.update();
    this.ontos.update();
    this.ontos.hidden = panel !== "parts";
    if (this.board.firstChild !== this.groups[panel]) this.board.replaceChildren(this.groups[panel]); // only what is seen is kept up to date
    const { radius, frequency, curves, steps } = this.view;
    const lines = (of) => curves.map((curve, i) => ({ label: curve.label, colour: curve.colour, dash: curve.name === "guided" ? "5 4" : null, y: [...of(i)] }));
    const numbers = (name, ...before) => (i) => this.arrays.at(name, i, ...before, step, sample);
    const over = (name, ...before) => (i) => steps.map((_, k) => this.arrays.at(name, i, ...before, k, sample)[0]);
    const logs = (of) => (i) => [...of(i)].map((value) => (value > 0 ? Math.log10(value) : NaN));
    const count = (name) => Array.from({ length: numbers(name)(0).length }, (_, i) => i);
    const [along, cursor] = [steps.map((_, k) => k), step];
    const onto = ["cond", "x0", "cfg"].indexOf(this.get("onto"));
    const draw = {
      lengths: () => [{ x: along, series: lines(over("norm")), cursor }, { x: count("in_frames"), series: lines(numbers("in_frames")) },
        { x: count("in_channels"), series: lines(numbers("in_channels")) }],
      parts: () => [{ x: along, series: lines(over("parallel", onto)), cursor }, { x: along, series: lines(over("orthogonal", onto)), cursor }],
      spectra: () => [{ x: radius, series: lines(logs(numbers("space"))) }, { x: frequency, series: lines(logs(numbers("time"))) }],
    };
    draw[panel]().forEach((given, i) => this.charts[panel][i].draw(given));
  }

  /** Keep the frames moving while it plays. */
  run() {
    this.animate(this.get("playing"), this.now, this.view.frames, (frame) => {
      this.now = frame;
      this.paintCards();
    });
  }
}

/** Values of a picture, 0 to 1 before clipping, as pixels. */
function picture(values, width, height) {
  const pixels = new ImageData(width, height);
  for (let i = 0, j = 0; i < values.length; i += 3, j += 4) {
    for (let c = 0; c < 3; c++) pixels.data[j + c] = Math.round(255 * Math.min(Math.max(values[i + c], 0), 1));
    pixels.data[j + 3] = 255;
  }
  return pixels;
}

/** RMS over red, green and blue of every pixel. */
function heat(values) {
  const found = new Float64Array(values.length / 3);
  for (let i = 0, j = 0; i < found.length; i++, j += 3) found[i] = Math.sqrt((values[j] ** 2 + values[j + 1] ** 2 + values[j + 2] ** 2) / 3);
  return found;
}

/** Where the colours of a heat map end: the 99th percentile. */
function highest(values) {
  return values ? Float64Array.from(values).sort()[Math.floor(0.99 * (values.length - 1))] : 0;
}

const HOT = Array.from({ length: 1024 }, (_, i) => viridis(i / 1023));

/** In place: a grey picture under the colours of a heat map, the more covered the hotter. */
function glow(pixels, values, high) {
  for (let i = 0, j = 0; j < pixels.length; i++, j += 4) {
    const grey = 0.299 * pixels[j] + 0.587 * pixels[j + 1] + 0.114 * pixels[j + 2];
    const place = values ? Math.min(values[i] / high, 1) : 0;
    const cover = values ? 0.6 + 0.4 * place : 0;
    const colour = HOT[Math.round(1023 * place)];
    for (let c = 0; c < 3; c++) pixels[j + c] = cover * colour[c] + (1 - cover) * grey;
  }
}

/** The share of values outside the picture's range. */
function clipped(values) {
  let count = 0;
  for (let i = 0; i < values.length; i++) if (values[i] < 0 || values[i] > 1) count++;
  return count / values.length;
}

function percent(share) {
  return `${(100 * share).toFixed(share < 0.1 && share > 0 ? 1 : 0)} %`;
}

const render = renderer(GuidanceExplorer);
export default { render };
