// The orthogonality explorer. Pictures and numbers are in the model: nothing here asks a kernel.

const GAP = 3; // pixels between tiles, as in the style sheet
const LABEL = 176; // width of the column of labels with its gap
const [ZERO, MOST] = [128, 127]; // of signed pictures, as in vector_sheets.py

class OrthogonalityExplorer extends Explorer {
  static CLASS = "stg-orth";
  static LABEL = "The angle between two guidance vectors";
  static STATE = ["step", "sample", "keeps", "loses", "unit", "gain"];
  static HELP = [
    [".stg-keeps", "kept", "The vector that stays as it is."],
    [".stg-loses", "made orthogonal", "The vector that loses its part along the other, as in the paper’s eq. 21."],
    [".stg-swap", "Swap", "Exchanges the two: which one is kept, and which one loses its part."],
    [".stg-gain", "Contrast", "Brightness of the pictures of vectors; the same for both, so that they compare."],
    [".stg-unit-off, .stg-unit-on", "Vectors, Directions", "Principal components of the vectors as long as they are, or of their directions alone."],
    [".stg-fact", "The angle", "90° is orthogonal. By chance, unrelated vectors of so many numbers lie within the interval that is told."],
    [".stg-film", "Pictures", "What each vector adds to the prediction, around grey; then the part that eq. 21 removes, and what is left."],
  ];

  prepare() {
    this.names = this.view.vectors.map((vector) => vector.name);
    this.pictures = Boolean(this.view.frames);
  }

  // --- building, once -------------------------------------------------------------------------------------------

  build() {
    const pick = (step) => this.set({ step });
    this.over = new LinePlot({ title: "Angle over the steps", xlabel: "step", ylabel: "degrees", pick });
    this.byFrame = new LinePlot({ title: "", xlabel: "latent frame", ylabel: "degrees" });
    this.corner = new Corner();
    this.plane = new Plane(pick);
    this.say = h("div", { class: "stg-fact", "aria-live": "polite" });
    this.rows = this.pictures ? ["cond", "keeps", "loses", "removed", "left"].map((role) => this.buildRow(role)) : [];
    const film = this.pictures ? h("div", { class: "stg-film" }, ...this.rows.map((row) => row.node))
      : h("div", { class: "stg-say" }, "No pictures: this recording cannot be decoded without its model.");
    return [this.buildHead("Are two guidance vectors orthogonal?"), this.buildSteps(), this.buildTools(), this.say,
      h("div", { class: "stg-two" }, film, this.corner.node),
      h("div", { class: "stg-plots" }, this.over.node, this.byFrame.node, this.plane.node)];
  }

  buildTools() {
    const options = () => this.view.vectors.map(({ name, label, note }) => h("option", { value: name }, label === name ? note : label));
    this.choosers = ["keeps", "loses"].map((trait) => {
      const select = h("select", { class: `stg-${trait}`, change: this.guard(() => this.choose(trait, select.value)) }, ...options());
      return select;
    });
    const [keeps, loses] = this.choosers;
    const swap = this.button("stg-swap", "⇄ Swap", () => this.swap());
    this.gain = h("input", { class: "stg-gain", type: "range", min: 0, max: 4, step: 0.5, "aria-label": "Contrast of the pictures",
      input: () => this.set({ gain: 2 ** +this.gain.value }) });
    this.legend = h("span", { class: "stg-legend" });
    this.kind = h("div", { class: "stg-group", role: "group", "aria-label": "Principal components of" },
      ...[["Vectors", false], ["Directions", true]].map(([text, unit]) =>
        this.button(`stg-unit-${unit ? "on" : "off"}`, text, () => this.set({ unit }), { title: unit ? "every vector has length 1" : "as long as they are" })));
    const key = (name) => h("kbd", {}, name);
    return h("div", { class: "stg-tools" },
      h("label", { class: "stg-field" }, "kept", keeps), h("label", { class: "stg-field" }, "made orthogonal to it", loses), swap,
      this.pictures ? h("label", { class: "stg-field" }, "contrast", this.gain) : null, this.legend, this.kind,
      h("span", { class: "stg-keys" }, key("←"), " ", key("→"), " step   ", key("s"), " swap"));
  }

  buildRow(role) {
    const [name, note] = [h("span", { class: "stg-name" }), h("span", { class: "stg-note" })];
    const tiles = h("div", { class: "stg-strip" });
    const why = h("div", { class: "stg-why", hidden: "" }, h("span", {}, "not computed at this step"));
    const node = h("section", { class: "stg-role", "data-role": role }, h("div", { class: "stg-label" }, name, note), tiles);
    return { role, name, note, tiles, why, node };
  }

  // --- answering ------------------------------------------------------------------------------------------------

  /** Choosing the vector that the other chooser already shows swaps the two. */
  choose(trait, name) {
    const other = trait === "keeps" ? "loses" : "keeps";
    this.set(this.get(other) === name ? { [trait]: name, [other]: this.get(trait) } : { [trait]: name });
  }

  swap() {
    this.set({ keeps: this.get("loses"), loses: this.get("keeps") });
  }

  onKey(event) {
    if (event.key === "s" && !event.ctrlKey && !event.metaKey && !event.altKey && event.target.tagName !== "SELECT") {
      this.swap();
      event.preventDefault();
    } else super.onKey(event);
  }

  // --- showing --------------------------------------------------------------------------------------------------

  /** Everything about the pair at hand. */
  pair() {
    const [step, sample] = [this.get("step"), this.get("sample")];
    const [i, j] = ["keeps", "loses"].map((trait) => this.names.indexOf(this.get(trait)));
    const [kept, loser] = [this.view.vectors[i], this.view.vectors[j]];
    const at = (name) => this.arrays.at(name, sample, i, j)[step];
    return { step, sample, i, j, kept, loser, angle: at("angle"), cosine: at("cosine"), chance: at("chance"),
      coefficient: at("coefficient"), length: this.arrays.at("length", sample, j)[step], keptLength: this.arrays.at("length", sample, i)[step] };
  }

  async refresh() {
    const sample = this.get("sample");
    const wanted = this.pictures ? ["cond", this.get("keeps"), this.get("loses")] : [];
    await Promise.all(wanted.map((name) => this.sheets.load(name, sample)));
    if (sample !== this.get("sample")) return; // another one was chosen meanwhile, and has its own refresh
    if (this.get("keeps") === this.get("loses")) return; // half of a change from the kernel: the other half follows
    this.showControls();
    this.showPair();
    this.root.dataset.ready = "true";
    this.layout();
  }

  showControls() {
    this.showSteps();
    this.choosers.forEach((select, k) => {
      select.value = this.get(k ? "loses" : "keeps");
      select.title = this.view.vectors[this.names.indexOf(select.value)].note;
    });
    this.gain.value = Math.log2(this.get("gain"));
    [...this.kind.children].forEach((button, k) => button.setAttribute("aria-pressed", String(this.get("unit") === Boolean(k))));
  }

  showPair() {
    const pair = this.pair();
    this.showFact(pair);
    this.showRows(pair);
  }

  showFact(pair) {
    const { angle, cosine, chance, kept, loser, coefficient } = pair;
    const bold = (text) => h("b", {}, text);
    if (!Number.isFinite(angle)) {
      this.say.replaceChildren("One of the two vectors was not computed at this step, so there is no angle.");
      return;
    }
    const word = Math.abs(cosine) <= 2 * chance ? "within" : "outside";
    this.say.replaceChildren(bold(`${angle.toFixed(1)}°`), ` between ${kept.label} and ${loser.label} (cosine ${minus(cosine.toFixed(3))}), ${word} what chance gives: `,
      `90° ± ${degrees(2 * chance).toFixed(1)}° for the same vectors in other places, ± ${this.view.random.dimensions.toFixed(2)}° for random ones in ${grouped(this.view.dimensions)} dimensions. `,
      "Eq. 21 removes ", bold(`${short(100 * cosine * cosine)} %`), ` of the energy of ${loser.label}: a part that points ${coefficient < 0 ? "against" : "along"} ${kept.label}.`);
  }

  showRows(pair) {
    const { kept, loser, coefficient, cosine } = pair;
    const { removed, left } = this.view.lines;
    const words = {
      cond: ["cond", "one-step prediction", "#000000"],
      keeps: [kept.label, "kept as it is", kept.colour],
      loses: [loser.label, "before", loser.colour],
      removed: ["removed", `${minus(short(coefficient))} × ${kept.label}`, removed],
      left: ["left", `orthogonal to ${kept.label}, ${short(100 * (1 - cosine * cosine))} % of the energy`, left],
    };
    for (const row of this.rows) {
      const [name, note, colour] = words[row.role];
      row.name.textContent = name;
      row.note.textContent = Number.isFinite(cosine) || ["cond", "keeps", "loses"].includes(row.role) ? note : "";
      row.node.style.setProperty("--stg-accent", ink(colour));
      row.node.setAttribute("aria-label", `${name}: ${note}`);
    }
    if (!this.pictures) return;
    this.showLegend(pair);
  }

  showLegend(pair) {
    const left = framesText(this.shown?.length ?? this.view.frames, this.view.frames);
    this.legend.textContent = [`grey = nothing added, ×${short(0.5 / this.brightest(pair))}`, left].filter(Boolean).join(" · ");
  }

  isThere({ sample, step }, v) {
    return Number.isFinite(this.arrays.at("length", sample, v)[step]);
  }

  /** The change of a pixel that is as bright as can be, for both vectors the same so that they compare. */
  brightest(pair) {
    const there = [pair.i, pair.j].filter((v) => this.isThere(pair, v));
    return Math.max(...there.map((v) => this.arrays.at("scale", pair.sample, v)[pair.step])) / this.get("gain");
  }

  /** Choose how large tiles are, and paint all that depends on the width. */
  layout() {
    if (!this.root.dataset.ready) return;
    const wide = this.root.clientWidth - 34;
    this.root.classList.toggle("stg-narrow", wide < 760);
    if (this.pictures) this.layoutFilm();
    this.paint();
  }

  layoutFilm() {
    const { frames, width, height } = this.view;
    const room = (this.rows[0].node.clientWidth || 600) - LABEL;
    const count = Math.max(1, Math.min(frames, Math.floor((room + GAP) / (34 + GAP))));
    const tile = Math.min((room - GAP * (count - 1)) / count, 96, (54 * width) / height); // five rows and the charts in sight
    this.root.style.setProperty("--stg-tile", `${tile}px`);
    this.root.style.setProperty("--stg-tile-high", `${(tile * height) / width}px`);
    if (this.shown?.length === count) return;
    this.shown = Array.from({ length: count }, (_, i) => (count === 1 ? 0 : Math.round((i * (frames - 1)) / (count - 1))));
    for (const row of this.rows) {
      row.canvases = this.shown.map((frame) => h("canvas", { class: "stg-still", width, height, role: "img", "data-frame": frame }));
      row.tiles.replaceChildren(...row.canvases, row.why);
    }
    this.showLegend(this.pair());
  }

  paint() {
    const pair = this.pair();
    if (this.pictures) {
      this.paintRibbon("cond", pair.sample);
      this.paintFilm(pair);
    }
    this.corner.draw(pair, this.view.lines);
    this.drawOver(pair);
    this.drawByFrame(pair);
    this.plane.draw({ ...pair, vectors: this.view.vectors, ...this.pathsOf(pair.sample) });
  }

  /** The two vectors come from their sheets; what eq. 21 removes and leaves is their sum with known numbers. */
  paintFilm(pair) {
    const { width, height } = this.view;
    const { step, sample, i, j, coefficient } = pair;
    const [a, b] = [i, j].map((v) => this.arrays.at("scale", sample, v)[step]);
    const most = this.brightest(pair);
    const there = [i, j].map((v) => this.isThere(pair, v));
    const parts = { keeps: [a / most, 0], loses: [0, b / most], removed: [(coefficient * a) / most, 0], left: [(-coefficient * a) / most, b / most] };
    const needs = { cond: true, keeps: there[0], loses: there[1], removed: there[0] && there[1], left: there[0] && there[1] };
    const read = (name, frame) => this.sheets.get(name, sample).getImageData(frame * width, step * height, width, height);
    this.shown.forEach((frame, k) => {
      const [cond, first, second] = ["cond", this.get("keeps"), this.get("loses")].map((name) => read(name, frame));
      for (const row of this.rows) {
        const context = row.canvases[k].getContext("2d", { willReadFrequently: true });
        row.canvases[k].setAttribute("aria-label", `${row.name.textContent}, frame ${frame}`);
        row.why.hidden = needs[row.role];
        row.node.classList.toggle("stg-missing", !needs[row.role]);
        if (!needs[row.role]) context.clearRect(0, 0, width, height);
        else context.putImageData(row.role === "cond" ? cond : mixed(first, second, ...parts[row.role]), 0, 0);
      }
    });
  }

  drawOver(pair) {
    const { sample, i, j, kept, loser, step } = pair;
    const of = (a, b) => this.arrays.at("angle", sample, a, b);
    const chance = Array.from(this.arrays.at("chance", sample, i, j), (c) => degrees(2 * c));
    const steps = this.view.steps.map((_, k) => k);
    const cfg = this.names.indexOf("uncond");
    const to = cfg < 0 || cfg === i || cfg === j ? [] : [[i, kept], [j, loser]];
    const series = [{ label: `${kept.label} – ${loser.label}`, colour: this.view.lines.pair, y: [...of(i, j)] },
      ...to.map(([v, vector]) => ({ label: `CFG – ${vector.label}`, colour: vector.colour, dash: "5 3", y: [...of(cfg, v)] })),
      { label: "by chance", colour: "#000000", y: steps.map(() => NaN), from: chance.map((c) => 90 - c), to: chance.map((c) => 90 + c) }];
    this.over.draw({ x: steps, series, cursor: step, mark: 90, ...around(series) });
    bandInLegend(this.over, `by chance, 90 ± ${short(chance[step])}`);
  }

  drawByFrame(pair) {
    const { sample, i, j, kept, loser, step, angle } = pair;
    const frames = this.arrays.get("frame_angle").shape[4];
    const all = this.arrays.at("frame_angle", sample, i, j);
    const y = [...all.subarray(step * frames, (step + 1) * frames)];
    const x = y.map((_, k) => k);
    const spread = this.view.random.frame_dimensions;
    const series = [{ label: `${kept.label} – ${loser.label}`, colour: this.view.lines.pair, y },
      { label: `whole clip ${short(angle)}`, colour: this.view.lines.pair, dash: "3 3", y: x.map(() => angle) },
      { label: "random vectors", colour: "#000000", y: x.map(() => NaN), from: x.map(() => 90 - spread), to: x.map(() => 90 + spread) }];
    this.byFrame.heading.textContent = `Angle in each frame at step ${step}`;
    this.byFrame.draw({ x, series, mark: 90, ...around([{ y: [...all] }, ...series]) });
    bandInLegend(this.byFrame, `random vectors, 90 ± ${spread.toFixed(1)}`);
  }

  /** Paths of all vectors of a sample, in the plane of its components. */
  pathsOf(sample) {
    const unit = this.get("unit") ? 1 : 0;
    const flat = this.arrays.at("score", unit, sample);
    const count = this.view.steps.length;
    const path = (v) => this.view.steps.map((_, k) => [flat[2 * (v * count + k)], flat[2 * (v * count + k) + 1]]);
    return { unit, paths: this.names.map((_, v) => path(v)), origin: [...this.arrays.at("origin", unit, sample)],
      explained: [...this.arrays.at("explained", unit, sample)] };
  }
}

const degrees = (cosine) => (Math.asin(Math.min(1, cosine)) * 180) / Math.PI;
const minus = (text) => text.replace("-", "−");
const grouped = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");

/** The last entry of a legend stands for a band, not a line. */
function bandInLegend(plot, words) {
  const [swatch] = plot.legend.lastChild.children;
  swatch.classList.add("stg-swatch-band");
  plot.legend.lastChild.replaceChildren(swatch, words);
}

/** A range of degrees around all series and a right angle, in whole fifteens. */
function around(series) {
  const all = series.flatMap((one) => [...one.y, ...(one.from ?? []), ...(one.to ?? [])]).filter(Number.isFinite);
  return { low: Math.max(0, Math.floor((Math.min(85, ...all) - 2) / 15) * 15), high: Math.min(180, Math.ceil((Math.max(95, ...all) + 2) / 15) * 15) };
}

/** Two signed pictures, each times a number, as one around mid-grey. */
function mixed(first, second, a, b) {
  const out = new ImageData(first.width, first.height);
  for (let k = 0; k < out.data.length; k++) {
    out.data[k] = k % 4 === 3 ? 255 : 127.5 + (127.5 / MOST) * (a * (first.data[k] - ZERO) + b * (second.data[k] - ZERO));
  }
  return out;
}

const render = renderer(OrthogonalityExplorer);
export default { render };
