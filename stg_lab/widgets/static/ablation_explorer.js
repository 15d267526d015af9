// The ablation explorer. Scores and pictures of every weak model are on board: nothing here asks a kernel.

const MOST_TILES = 9; // a strip shows at most so many frames
const NUMBERS_FROM = 34; // pixels of a cell's width from which its value is written into it

class AblationExplorer extends Explorer {
  static CLASS = "stg-ab";
  static LABEL = "Weak models of a sweep";
  static STATE = ["step", "sample", "score", "cell", "pinned", "gain"];
  static HELP = [
    [".stg-ab-score", "Colour", "The score that colours the grid. It looks one step ahead and is no verdict on videos."],
    [".stg-ab-step", "Step", "Which of the steps that were looked at."],
    [".stg-ab-gain", "Vector", "What the vector’s pixels are multiplied by, so that they can be seen."],
    [".stg-ab-list", "Shortlist", "Those that act and still draw the same thing, what points most along CFG’s vector first, with what speaks against each. To be tested by sampling."],
    [".stg-ab-pin", "Pin", "Keeps this weak model in sight beside the next one that is chosen."],
    [".stg-ab-chosen", "The chosen one", "What to type for it, and what speaks for and against it."],
    [".stg-ab-pictures", "Pictures", "The model’s own predictions, the weak model’s, and the vector between, all from the same noisy video."],
  ];

  prepare() {
    const { frames, cells, scores } = this.view;
    const tiles = Math.min(frames, MOST_TILES);
    this.shown = Array.from({ length: tiles }, (_, i) => (tiles === 1 ? 0 : Math.round((i * (frames - 1)) / (tiles - 1))));
    this.byName = new Map(cells.map((cell, i) => [cell.name, { ...cell, i }]));
    this.ranges = scores.map((score, i) => this.rangeOf(i, score.signed));
  }

  /** Lowest and highest value of a score over the whole sweep, so that colours mean the same at every step and sample. */
  rangeOf(i, signed) {
    const values = [...this.arrays.at("scores", i)].filter(Number.isFinite);
    const most = Math.max(...values.map(Math.abs), 1e-9);
    return signed ? [-most, most] : [Math.min(...values, most), Math.max(...values, 1e-9)];
  }

  // --- building, once -------------------------------------------------------------------------------------------

  build() {
    const { advice } = this.view;
    this.says = h("p", { class: "stg-say stg-ab-definition" });
    return [this.buildHead("Weak models of a sweep"), this.buildTools(), this.buildGrid(), this.says,
      h("div", { class: "stg-ab-body" },
        h("section", { class: "stg-ab-list", "aria-label": "Shortlist" },
          h("div", { class: "stg-ab-title" }, "Shortlist", h("span", { class: "stg-say" }, `${advice.met} of ${advice.count} are worth sampling`)),
          this.buildShortlist(), h("p", { class: "stg-say" }, `${advice.basis} To be tested by sampling; no proof.`),
          h("details", { class: "stg-say" }, h("summary", {}, "What was asked"), `${advice.asked}.`)),
        h("section", { class: "stg-ab-detail", "aria-label": "Chosen weak model" }, this.buildChosen(), this.buildPictures(), this.buildTable()))];
  }

  buildTools() {
    const { scores, steps, gains } = this.view;
    const select = (name, label, options, change) => h("select", { class: `stg-ab-${name}`, "aria-label": label,
      change: this.guard((event) => change(event.target.value)) }, ...options.map(([value, text]) => h("option", { value }, text)));
    this.scorer = select("score", "Score", scores.map((score) => [score.name, score.long_name]), (score) => this.set({ score }));
    this.stepper = select("step", "Step", steps.map((one) => [one.step, `${one.step}${one.sigma === null ? "" : ` · σ ${short(one.sigma)}`}`]), (step) => this.set({ step: +step }));
    this.gainer = select("gain", "Gain of the vectors", gains.map((gain) => [gain, `×${gain}`]), (gain) => this.set({ gain: +gain }));
    this.bar = h("span", { class: "stg-ab-bar" });
    const field = (text, node) => h("label", { class: "stg-field" }, text, node);
    const key = (name) => h("kbd", {}, name);
    return h("div", { class: "stg-tools" }, field("Colour", this.scorer), this.bar, field("Step", this.stepper), field("Vector", this.gainer),
      h("span", { class: "stg-keys" }, key("←"), " ", key("→"), " ", key("↑"), " ", key("↓"), " cell   ", key("p"), " pin"));
  }

  buildGrid() {
    const { layers, columns, cells } = this.view;
    this.buttons = cells.map((cell) => this.button("stg-ab-cell", "", () => this.choose(cell.name), { "data-cell": cell.name, tabindex: -1 }));
    this.at = new Map(cells.map((cell, i) => [`${cell.column}/${cell.layer}`, i]));
    const row = (name, column) => [h("span", { class: "stg-ab-row" }, name),
      ...layers.map((layer) => this.buttons[this.at.get(`${column}/${layer}`)] ?? h("span", {}))];
    this.grid = h("div", { class: "stg-ab-grid", role: "group", "aria-label": "Layers by part and axis",
      keydown: this.guard((event) => this.onGridKey(event)) },
      ...columns.flatMap(row), h("span", { class: "stg-ab-row stg-ab-layer" }, "layer"), ...layers.map((layer) => h("span", { class: "stg-ab-layer" }, layer)));
    this.grid.style.setProperty("--stg-layers", layers.length);
    return this.grid;
  }

  buildShortlist() {
    this.items = this.view.shortlist.map((one) => {
      const button = this.button("stg-ab-item", "", () => this.choose(one.name), { "data-cell": one.name });
      button.append(h("b", {}, `${one.rank}`), h("span", {}, h("code", {}, one.typed),
        h("small", {}, `${one.met} of ${one.of} criteria, ${one.once}, ${one.along === null ? `change of x0 ${short(one.change)}` : `cosine to CFG ${short(one.along)}`}`),
        one.against.length ? h("small", {}, `− ${one.against[0]}`) : null));
      button.classList.toggle("stg-ab-short", one.met < one.of);
      return button;
    });
    return h("div", { class: "stg-ab-items" }, ...this.items);
  }

  buildChosen() {
    this.heads = ["cell", "pinned"].map((trait) => {
      const [name, code, reasons] = [h("b", {}), h("code", {}), h("ul", { class: "stg-ab-reasons" })];
      const pin = this.button("stg-ab-pin", "", () => this.set({ pinned: this.get("pinned") ? "" : this.get("cell") }));
      const node = h("div", { class: "stg-ab-chosen", "data-which": trait }, h("div", {}, name, code, pin), reasons);
      return { trait, node, name, code, pin, reasons };
    });
    return h("div", { class: "stg-ab-pair" }, ...this.heads.map((one) => one.node));
  }

  buildPictures() {
    const strip = (key) => {
      const tiles = this.shown.map((frame) => h("canvas", { width: this.view.width, height: this.view.height, role: "img", "data-frame": frame }));
      const [label, why] = [h("span", { class: "stg-note" }), h("div", { class: "stg-ab-why" })];
      const contexts = tiles.map((tile) => tile.getContext("2d", { willReadFrequently: true }));
      const node = h("figure", { class: "stg-ab-strip", "data-strip": key }, h("figcaption", {}, label), h("div", { class: "stg-ab-tiles" }, ...tiles, why));
      return { key, node, label, why, tiles, contexts };
    };
    this.strips = ["cond", "uncond", "cell", "pinned", "cell-vector", "pinned-vector"].map(strip);
    this.pictures = h("div", { class: "stg-ab-pair stg-ab-pictures" }, ...this.strips.map((one) => one.node));
    return this.pictures;
  }

  buildTable() {
    this.rows = this.view.scores.map((score) => {
      const cells = Array.from({ length: 4 }, () => h("td", {}));
      const node = h("tr", { "data-score": score.name }, h("th", { scope: "row" }, score.long_name,
        h("small", {}, `${score.definition}${score.units === "1" ? "" : ` (units of the ${score.units})`}; ${score.valid_range}`)), ...cells);
      return { node, cells };
    });
    this.columns = Array.from({ length: 4 }, () => h("th", { scope: "col" }));
    return h("table", { class: "stg-ab-table" }, h("thead", {}, h("tr", {}, h("th", {}, "Score and its definition"), ...this.columns)),
      h("tbody", {}, ...this.rows.map((row) => row.node)));
  }

  // --- answering ------------------------------------------------------------------------------------------------

  choose(name) {
    this.set({ cell: name });
  }

  /** Arrow keys move through the grid, from one weak model's button to the next. */
  onGridKey(event) {
    const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!by || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const { layers, columns, cells } = this.view;
    const now = cells[this.buttons.indexOf(document.activeElement.closest?.(".stg-ab-cell") ?? this.buttons[this.chosen.i])] ?? this.chosen;
    const layer = layers[layers.indexOf(now.layer) + by[1]];
    const column = now.column + by[0];
    const next = this.at.get(`${column}/${layer}`);
    if (next === undefined || column < 0 || column >= columns.length) return;
    this.choose(cells[next].name);
    this.buttons[next].focus();
  }

  onKey(event) {
    if (event.key !== "p" || event.ctrlKey || event.altKey || event.metaKey || event.target.tagName === "SELECT") return;
    this.set({ pinned: this.get("pinned") === this.get("cell") ? "" : this.get("cell") });
    event.preventDefault();
  }

  // --- showing --------------------------------------------------------------------------------------------------

  get chosen() {
    return this.byName.get(this.get("cell")) ?? this.byName.get(this.view.cells[0].name);
  }

  get stepIndex() {
    return Math.max(this.view.steps.findIndex((one) => one.step === this.get("step")), 0);
  }

  async refresh() {
    const sample = this.get("sample");
    const [one, other] = [this.chosen, this.byName.get(this.get("pinned"))];
    const wanted = ["cond", "uncond", one.name, other?.name].filter((name) => name && this.model.get("sheets")[`${name}/${sample}`]);
    await Promise.all(wanted.map((name) => this.sheets.load(name, sample)));
    if (sample !== this.get("sample") || one.name !== this.chosen.name) return; // another was chosen meanwhile
    this.showGrid();
    this.showChosen(one, other);
    this.showPictures(one, other);
    this.showTable(one, other);
  }

  scoresAt(i) {
    return this.arrays.at("scores", i, this.stepIndex, this.get("sample"));
  }

  showGrid() {
    const i = this.view.scores.findIndex((score) => score.name === this.get("score"));
    const [score, [low, high], values] = [this.view.scores[i], this.ranges[i], this.scoresAt(i)];
    const colours = score.signed ? diverging : viridis;
    const wide = (this.grid.querySelector(".stg-ab-cell")?.clientWidth || 60) >= NUMBERS_FROM;
    const ranks = new Map(this.view.shortlist.map((one) => [one.name, one.met === one.of ? one.rank : 0]));
    this.view.cells.forEach((cell, k) => {
      const [button, value] = [this.buttons[k], values[k]];
      const there = !cell.why && Number.isFinite(value);
      const rgb = there ? colours((value - low) / (high - low || 1)) : null;
      button.style.background = rgb ? css(rgb) : "";
      button.style.color = rgb ? onto(rgb) : "";
      button.textContent = there && wide ? value.toFixed(2) : "";
      button.classList.toggle("stg-ab-none", !there);
      button.classList.toggle("stg-ab-listed", Boolean(ranks.get(cell.name)));
      const chosen = cell.name === this.chosen.name;
      button.setAttribute("aria-current", String(chosen));
      button.classList.toggle("stg-ab-pinned", cell.name === this.get("pinned"));
      button.tabIndex = chosen ? 0 : -1;
      const said = there ? `${score.long_name} ${short(value)}` : cell.why || "no value at this step and sample";
      button.setAttribute("aria-label", `${cell.words}: ${said}`);
      button.title = `${cell.words}\n${said}`;
    });
    this.items.forEach((item) => item.setAttribute("aria-pressed", String(item.dataset.cell === this.chosen.name)));
    this.bar.replaceChildren(colourBar(low, high, colours));
    this.says.textContent = `${score.long_name}: ${score.definition}. Outlined dots: on the shortlist. Hatched: no weak model.`;
    this.scorer.value = this.get("score");
    this.stepper.value = this.view.steps[this.stepIndex].step;
    this.gainer.value = this.get("gain");
    if (this.chooser) this.chooser.value = this.get("sample");
  }

  showChosen(one, other) {
    this.heads.forEach((head) => {
      const cell = head.trait === "cell" ? one : other;
      head.node.hidden = !cell;
      if (!cell) return;
      head.name.textContent = cell.words;
      head.code.textContent = cell.typed;
      head.pin.textContent = head.trait === "pinned" ? "Unpin" : "Pin to compare";
      head.pin.hidden = head.trait === "cell" && Boolean(other);
      const item = (sign, text) => h("li", { class: sign === "+" ? "stg-ab-for" : "stg-ab-against" }, h("b", {}, sign), text);
      const reasons = cell.advice ? [...cell.advice.for.map((text) => item("+", text)), ...cell.advice.against.map((text) => item("−", text))] : [item("−", cell.why)];
      head.reasons.replaceChildren(...reasons);
    });
  }

  showPictures(one, other) {
    const hidden = { pinned: !other, "pinned-vector": !other };
    this.pictures.hidden = !this.view.frames && !this.view.why;
    for (const strip of this.strips) {
      const pinned = strip.key.startsWith("pinned");
      const cell = { cond: null, uncond: null }[strip.key] === null ? { name: strip.key, words: strip.key === "cond" ? "conditional" : "unconditional" } : pinned ? other : one;
      strip.node.hidden = Boolean(hidden[strip.key]);
      if (strip.node.hidden) continue;
      const vector = strip.key.endsWith("-vector");
      const name = vector ? `conditional − ${cell.words}, around grey, ×${this.get("gain")}` : `${cell.words}, x0`;
      const left = framesText(this.shown.length, this.view.frames);
      strip.label.textContent = strip.key === "cond" && left ? `${name} · ${left}` : name;
      this.paintStrip(strip, cell, vector, name);
    }
    this.pictures.dataset.paired = String(Boolean(other));
    this.pictures.style.setProperty("--stg-tiles", Math.max(this.shown.length, 1));
  }

  paintStrip(strip, cell, vector, name) {
    const { width, height } = this.view;
    const [sample, y] = [this.get("sample"), this.stepIndex * height];
    const sheet = this.sheets.get(cell.name, sample);
    const cond = this.sheets.get("cond", sample);
    const there = sheet && (!vector || cond) && !cell.why;
    strip.why.hidden = Boolean(there);
    strip.why.textContent = cell.why || this.view.why || (strip.key === "uncond" ? "this run had no unconditional prediction" : "not made");
    strip.tiles.forEach((tile) => { tile.hidden = !there; });
    if (!there) return;
    this.shown.forEach((frame, i) => {
      const pixels = sheet.getImageData(frame * width, y, width, height);
      if (vector) subtract(pixels.data, cond.getImageData(frame * width, y, width, height).data, -this.get("gain")); // cond less the weak model
      strip.contexts[i].putImageData(pixels, 0, 0);
      strip.tiles[i].setAttribute("aria-label", `${name}, frame ${frame}`);
    });
  }

  showTable(one, other) {
    const states = this.view.steps.length * this.view.samples.length;
    this.columns.forEach((column, i) => {
      const cell = i < 2 ? one : other;
      column.hidden = !cell || (i % 2 === 1 && states === 1);
      column.replaceChildren(i % 2 ? `mean of ${states} states` : "here", ...(other && cell && i % 2 === 0 ? [h("small", {}, cell.words)] : []));
    });
    const count = this.view.cells.length;
    this.rows.forEach(({ node, cells }, i) => {
      const [here, all] = [this.scoresAt(i), this.arrays.at("scores", i)];
      [one, other].forEach((cell, k) => {
        const values = cell ? Array.from({ length: all.length / count }, (_, s) => all[s * count + cell.i]).filter(Number.isFinite) : [];
        const mean = values.reduce((a, b) => a + b, 0) / values.length;
        const [low, high] = [Math.min(...values), Math.max(...values)];
        cells[2 * k].textContent = cell ? short(here[cell.i]) : "";
        cells[2 * k + 1].textContent = !values.length ? "–" : low < high ? `${short(mean)} (${short(low)} to ${short(high)})` : short(mean);
        cells[2 * k].hidden = !cell;
        cells[2 * k + 1].hidden = !cell || states === 1;
      });
      node.classList.toggle("stg-ab-coloured", this.view.scores[i].name === this.get("score"));
    });
  }

  layout() {
    const wide = this.root.clientWidth;
    this.root.classList.toggle("stg-narrow", wide < 620);
    this.root.dataset.columns = wide >= 900 ? "2" : "1";
    if (this.root.dataset.ready) this.showGrid();
  }
}

const render = renderer(AblationExplorer);
export default { render };
