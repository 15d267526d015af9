// Many videos under one clock. A button for each; every one is painted from its setting's sheet.

const BESIDE = 3 * 174 + 76; // pixels that three enlarged videos take beside the others
const SIZES_OF_GRID = [16, 24, 32, 48, 64, 96, 128, 192, 256];

class GridExplorer extends Explorer {
  static CLASS = "stg-videos";
  static LABEL = "Videos by setting and seed";
  static STATE = ["by", "group", "at", "score", "sort", "size", "playing", "frame", "chosen"];
  static HELP = [
    [".stg-by-seed", "By seed", "A row for each setting, a column for each caption and seed: every column starts from the same noise."],
    [".stg-by-scale", "By scale", "A row for each candidate, a column for each scale, all of one caption and seed."],
    [".stg-group-select", "States", "A search chooses by some seeds and tells its winner by fresh ones, which took no part in choosing."],
    [".stg-at", "Shown", "By scale, which caption and seed is shown."],
    [".stg-score", "Score", "What stands under each video, and what the settings can be sorted by."],
    [".stg-sort", "Best first", "Sorts the settings by their mean score; baselines stay on top. Of many, the best looks better than it is."],
    [".stg-smaller, .stg-larger, .stg-fit", "− fit +", "Size of the pictures; where they do not fit beside each other, scroll sideways: none is left out."],
    [".stg-clear", "Put back", "Closes the enlarged videos."],
    [".stg-video", "A video", "Click to see it large beside the baselines of the same noise; click again to put it back."],
  ];

  prepare() {
    Object.assign(this, { frame: 0, tiles: [], large: [], built: "" });
  }

  // --- building, once -------------------------------------------------------------------------------------------

  build() {
    const { view } = this;
    const count = view.there.flat().filter(Boolean).length;
    const head = h("div", { class: "stg-head" }, h("span", { class: "stg-title" }, view.title || "Videos by setting and seed"),
      h("span", { class: "stg-caption" }, `${count} videos`));
    this.panel = h("div", { class: "stg-large", "aria-label": "Enlarged videos", role: "group", hidden: "" });
    this.table = h("div", { class: "stg-table" });
    return [head, this.buildTools(), h("div", { class: "stg-seen" }, this.panel, h("div", { class: "stg-scroll", tabindex: "0", "aria-label": "All videos" }, this.table))];
  }

  buildTools() {
    const { view } = this;
    const options = (all) => all.map(([value, text]) => h("option", { value }, text));
    this.bys = view.scales.length > 1 ? this.choice("by", [["seed", "By seed"], ["scale", "By scale"]], "Columns") : null;
    this.groups = view.groups.length > 1 ? h("select", { class: "stg-group-select", "aria-label": "States", change: () => this.set({ group: this.groups.value, at: 0 }) },
      ...options(view.groups.map((name) => [name, name]))) : null;
    this.which = h("select", { class: "stg-at", "aria-label": "Caption and seed", change: () => this.set({ at: +this.which.value }) });
    this.scores = view.scores.length ? h("select", { class: "stg-score", "aria-label": "Score", change: () => this.set({ score: this.scores.value }) },
      ...options(view.scores.map(({ name }) => [name, name]))) : null;
    this.sorter = view.scores.length ? this.button("stg-sort", "Best first", () => this.set({ sort: !this.get("sort") })) : null;
    this.play = this.button("stg-play", "", () => this.togglePlay());
    const zoom = h("div", { class: "stg-group", role: "group", "aria-label": "Size of the pictures" },
      this.button("stg-smaller", "−", () => this.zoom(-1), { "aria-label": "Smaller pictures" }),
      this.button("stg-fit", "fit", () => this.set({ size: 0 }), { "aria-label": "Pictures that fill the width" }),
      this.button("stg-larger", "+", () => this.zoom(1), { "aria-label": "Larger pictures" }));
    const field = (name, node) => (node ? h("label", { class: "stg-field" }, name, node) : null);
    this.legend = h("span", { class: "stg-legend" });
    return h("div", { class: "stg-tools" }, this.bys, field("states", this.groups), this.atField = field("shown", this.which), this.play, zoom, field("score", this.scores), this.sorter,
      this.legend, h("span", { class: "stg-keys" }, h("kbd", {}, "space"), " play   ", h("kbd", {}, "−"), " ", h("kbd", {}, "+"), " zoom   ", h("kbd", {}, "esc"), " put back"));
  }

  // --- answering ------------------------------------------------------------------------------------------------

  zoom(by) {
    const now = Math.round(this.tile);
    const next = by > 0 ? SIZES_OF_GRID.find((size) => size > now) : SIZES_OF_GRID.findLast((size) => size < now);
    if (next) this.set({ size: next });
  }

  choose(key) {
    const chosen = this.get("chosen");
    this.set({ chosen: chosen.includes(key) ? chosen.filter((other) => other !== key) : [...chosen, key].slice(-this.view.most) });
  }

  onKey(event) {
    const by = { "+": 1, "=": 1, "-": -1 }[event.key];
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.tagName === "SELECT") return;
    if (by) this.zoom(by);
    else if (event.key === "Escape" && this.get("chosen").length) this.set({ chosen: [] });
    else if (event.key === " " && event.target.tagName !== "BUTTON") this.togglePlay();
    else return;
    event.preventDefault();
  }

  // --- showing --------------------------------------------------------------------------------------------------

  /** Numbers of the states of the group that is shown. */
  get columns() {
    return this.view.states.flatMap((state, k) => (state.group === this.get("group") ? [k] : []));
  }

  scoreOf(setting, state) {
    const which = this.view.scores.findIndex(({ name }) => name === this.get("score"));
    if (which < 0) return NaN;
    const { data, shape } = this.arrays.get("scores");
    return data[(which * shape[1] + setting) * shape[2] + state];
  }

  mean(setting) {
    const values = this.columns.map((state) => this.scoreOf(setting, state)).filter((value) => !Number.isNaN(value));
    return values.length ? values.reduce((a, b) => a + b, 0) / values.length : NaN;
  }

  /** Numbers of the settings, in the order in which they stand. */
  get order() {
    const { settings, there, scores } = this.view;
    const shown = settings.map((_, i) => i).filter((i) => this.columns.some((k) => there[i][k]));
    if (!this.get("sort") || !this.get("score")) return shown;
    const sign = scores.find(({ name }) => name === this.get("score")).better;
    const key = (i) => (settings[i].baseline ? -Infinity : Number.isNaN(this.mean(i)) ? Infinity : -sign * this.mean(i));
    return shown.map((i, place) => [i, place]).sort((a, b) => key(a[0]) - key(b[0]) || a[1] - b[1]).map(([i]) => i);
  }

  async refresh() {
    await Promise.all(this.view.settings.map((_, i) => this.sheets.load(i, 0)));
    if (!this.get("playing")) this.frame = this.get("frame");
    this.layout();
    this.showControls();
    this.showLarge();
    this.paint();
    this.animate(this.get("playing"), this.frame, this.view.frames, (frame) => {
      this.frame = frame;
      this.paint();
    });
  }

  showControls() {
    const playing = this.get("playing");
    this.bys?.update();
    if (this.groups) this.groups.value = this.get("group");
    if (this.scores) this.scores.value = this.get("score");
    this.sorter?.setAttribute("aria-pressed", String(this.get("sort")));
    this.atField.hidden = this.get("by") !== "scale";
    this.which.replaceChildren(...this.columns.map((k, i) => h("option", { value: i }, this.stateName(k))));
    this.which.value = this.get("at");
    this.play.replaceChildren(icon(playing ? "pause" : "play"), playing ? "Pause" : "Play");
    this.play.setAttribute("aria-label", playing ? "Pause the videos" : "Play the videos");
    this.root.querySelector(".stg-fit").setAttribute("aria-pressed", String(!this.get("size")));
    this.legend.textContent = [this.get("sort") ? `sorted by ${this.get("score")}, the mean of what is shown` : "",
      this.view.shrink > 1 ? `pictures at 1/${this.view.shrink} of their size` : ""].filter(Boolean).join(" · ");
  }

  stateName(k) {
    const { caption, seed } = this.view.states[k];
    return [seed === null ? "" : `seed ${seed}`, caption].filter(Boolean).join(", ") || "(no caption)";
  }

  /** What stands where: rows of [setting or null], and the heads of the columns. */
  get plan() {
    const { settings, scales, there } = this.view;
    if (this.get("by") === "seed") {
      const columns = this.columns;
      return { heads: columns.map((k) => this.stateName(k)), rows: this.order.map((i) => ({ label: settings[i].label, of: i, cells: columns.map((k) => (there[i][k] ? [i, k] : null)) })) };
    }
    const k = this.columns[this.get("at")];
    const names = [...new Set(this.order.map((i) => settings[i].name))];
    const find = (name, scale) => settings.findIndex((one) => one.name === name && one.scale === scale);
    const cell = (i) => (i >= 0 && there[i][k] ? [i, k] : null);
    return { heads: scales.map((scale) => `scale ${scale}`), rows: names.map((name) => ({
      label: name, of: find(name, null), cells: find(name, null) >= 0 ? [cell(find(name, null))] : scales.map((scale) => cell(find(name, scale))) })) };
  }

  /** Make the buttons anew where something else stands there, and choose how large they are. */
  layout() {
    if (!this.root) return;
    const { width, height } = this.view;
    const { heads, rows } = this.plan;
    const names = this.root.clientWidth < 640 ? 96 : 176;
    const room = ((this.root.clientWidth || 900) - 34 - names - 6 * heads.length) / heads.length;
    const unit = width / (window.devicePixelRatio || 1);
    const most = rows.length > 12 ? 64 : rows.length > 4 ? 96 : 160; // many rows are to be seen together
    const fit = Math.max(24, room >= unit ? Math.floor((Math.min(room, most) / unit) * 2) * (unit / 2) : Math.min(room, most));
    this.tile = this.get("size") || fit;
    this.root.classList.toggle("stg-beside", names + heads.length * (this.tile + 6) + BESIDE <= this.root.clientWidth);
    this.table.style.setProperty("--stg-columns", heads.length);
    this.table.style.setProperty("--stg-name", `${names}px`);
    this.table.style.setProperty("--stg-tile", `${this.tile}px`);
    this.table.style.setProperty("--stg-tile-high", `${(this.tile * height) / width}px`);
    const built = JSON.stringify([heads, rows, this.get("score")]);
    if (built === this.built) return;
    this.built = built;
    this.tiles = [];
    this.table.replaceChildren(h("div", { class: "stg-corner" }), ...heads.map((head) => h("div", { class: "stg-column", title: head }, head)),
      ...rows.flatMap((row) => this.buildRow(row, heads.length)));
    this.suppress();
  }

  buildRow({ label, of, cells }, columns) {
    const setting = this.view.settings[of];
    const mean = of >= 0 ? this.mean(of) : NaN;
    const name = h("div", { class: setting?.baseline ? "stg-setting stg-base" : "stg-setting", title: setting?.guidance || label }, h("span", { class: "stg-name" }, label),
      Number.isNaN(mean) ? null : h("span", { class: "stg-mean" }, `${this.words(mean)} of ${this.columns.filter((k) => !Number.isNaN(this.scoreOf(of, k))).length} shown`));
    const filled = [...cells, ...Array(columns - cells.length).fill(null)];
    return [name, ...filled.map((cell) => (cell ? this.buildTile(...cell) : h("div", { class: "stg-none" })))];
  }

  words(value) {
    return value >= 0 && value <= 1 && this.get("score") === "right" ? `${Math.round(100 * value)} %` : short(value);
  }

  /** What stands under one video. */
  told(value) {
    if (Number.isNaN(value)) return "";
    return this.get("score") === "right" ? (value >= 0.5 ? "✓" : "✗") : short(value);
  }

  buildTile(setting, state) {
    const key = `${setting}/${state}`;
    const canvas = h("canvas", { class: "stg-tile", width: this.view.width, height: this.view.height });
    const value = this.scoreOf(setting, state);
    const told = this.told(value);
    const words = `${this.view.settings[setting].label}: ${this.stateName(state)}${told ? `, ${this.get("score")} ${told}` : ""}`;
    const node = this.button("stg-video", canvas, () => this.choose(key), { "aria-label": words, title: words, "data-key": key });
    if (told) node.append(h("span", { class: told === "✗" ? "stg-told stg-wrong" : "stg-told", "aria-hidden": "true" }, told));
    this.tiles.push({ setting, state, node, key, context: canvas.getContext("2d") });
    return node;
  }

  /** The chosen videos, large, after the baselines of the noise of the last one. */
  showLarge() {
    const chosen = this.get("chosen");
    this.panel.hidden = !chosen.length;
    this.tiles.forEach(({ node, key }) => node.setAttribute("aria-pressed", String(chosen.includes(key))));
    if (String(chosen) === this.enlarged) return;
    this.enlarged = String(chosen);
    this.large = [];
    if (!chosen.length) return;
    const last = +chosen[chosen.length - 1].split("/")[1];
    const { settings, there } = this.view;
    const bases = settings.flatMap((one, i) => (one.baseline && there[i][last] ? [`${i}/${last}`] : [])).filter((key) => !chosen.includes(key));
    const cards = [...bases, ...chosen].map((key) => this.buildCard(key));
    this.panel.replaceChildren(...cards, this.button("stg-clear", "Put back", () => this.set({ chosen: [] })));
    this.suppress();
  }

  buildCard(key) {
    const [setting, state] = key.split("/").map(Number);
    const { width, height, settings } = this.view;
    const canvas = h("canvas", { class: "stg-tile", width, height, role: "img", "aria-label": `${settings[setting].label}, ${this.stateName(state)}` });
    this.large.push({ setting, state, context: canvas.getContext("2d") });
    const value = this.scoreOf(setting, state);
    return h("figure", { class: settings[setting].baseline ? "stg-card stg-base" : "stg-card" }, canvas, h("figcaption", {}, h("b", {}, settings[setting].label),
      h("span", {}, this.stateName(state)), settings[setting].guidance ? h("code", {}, settings[setting].guidance) : null,
      Number.isNaN(value) ? null : h("span", {}, `${this.get("score")} ${this.told(value)}`)));
  }

  paint() {
    const { width, height } = this.view;
    for (const { setting, state, context } of [...this.tiles, ...this.large]) {
      const sheet = this.sheets.get(setting, 0);
      if (sheet) context.drawImage(sheet.canvas, this.frame * width, state * height, width, height, 0, 0, width, height);
    }
  }
}

const render = renderer(GridExplorer);
export default { render };
