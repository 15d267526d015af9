// The x0 explorer. All pictures are in the model: nothing here asks a kernel.

const GAP = 3; // pixels between tiles, as in the style sheet
const AROUND = 210; // pixels of height that all but the rows take
const NAMES = 180; // width of the column of names with its gap
const SIZES = [32, 48, 64, 96, 128, 192, 256, 384, 512, 768]; // pixels of a picture, by the zoom's buttons
const SMALLEST = 34; // a film strip shows fewer frames rather than narrower ones

class X0Explorer extends Working {
  static CLASS = "stg-x0";
  static LABEL = "One-step predictions by step";
  static STATE = ["step", "sample", "mode", "playing", "difference", "gain", "size"];
  static HELP = [
    [".stg-mode-frames", "Frames", "A film strip for each branch: its one-step prediction of the clean video, frame by frame."],
    [".stg-mode-video", "Video", "The same predictions as videos beside each other, running together."],
    [".stg-difference", "± Difference", "Shows what each branch has more or less of than cond, around grey: the guidance vector as one sees it."],
    [".stg-smaller, .stg-larger, .stg-fit", "− fit +", "Size of the pictures; where not all frames have room, some are left out evenly, and the numbers above say which are there."],
    [".stg-work", "Decode", "Pictures of large models are quick linear previews; this decodes the step with the model itself."],
    ['.stg-branch[data-branch="cond"] .stg-label', "cond", "What the model predicts with the caption."],
    ['.stg-branch[data-branch="uncond"] .stg-label', "uncond", "What it predicts without the caption: the weak model of CFG."],
    ['.stg-branch[data-branch="cfg"] .stg-label', "CFG", "What CFG alone would have made of this step."],
    ['.stg-branch[data-branch="guided"] .stg-label', "guided", "What the sampler went on with."],
    [".stg-final .stg-label", "final, baseline", "Finished videos: of this run, and of the same call without the weak model."],
    [".stg-branch .stg-label", "other rows", "Weak models: the same model, made worse in the way that is written there."],
  ];

  get followed() {
    return [...super.followed, "decoded"];
  }

  prepare() {
    super.prepare();
    Object.assign(this, { frame: 0, shown: null });
    this.reference = this.view.reference ?? "cond"; // the row that differences are taken from
    this.canDiffer = this.view.rows.some((row) => row.name === this.reference) && this.view.rows.length > 1;
  }

  // --- building, once -------------------------------------------------------------------------------------------

  build() {
    const { view } = this;
    this.rows = [...view.rows, ...view.finals].map((row) => this.buildRow(row));
    const branches = this.rows.slice(0, view.rows.length).map((row) => row.node);
    const finals = this.rows.slice(view.rows.length).map((row) => row.node);
    this.axis = h("div", { class: "stg-tiles" });
    return [this.buildHead("One-step predictions ", h("i", {}, "x", h("sub", {}, "0"))), this.buildSteps(), this.buildTools(), this.buildDecode(),
      h("div", { class: "stg-axis", "aria-hidden": "true" }, h("span", {}, "frame"), this.axis),
      h("div", { class: "stg-rows" }, ...branches),
      finals.length ? h("div", { class: "stg-rule" }, finals.length > 1 ? "Final videos" : "Final video") : null,
      finals.length ? h("div", { class: "stg-rows" }, ...finals) : null, this.buildSettings()];
  }

  /** What two runs that are compared do not have in common. */
  buildSettings() {
    const { settings } = this.view;
    if (!settings) return null;
    const rows = settings.map((values) => h("tr", {}, ...values.map((value, i) => h(i ? "td" : "th", {}, value))));
    return h("details", { class: "stg-settings", open: "" }, h("summary", {}, `Settings that differ: ${settings.length || "none"}`),
      h("table", {}, h("tr", {}, ...["setting", "a", "b"].map((name) => h("th", {}, name))), ...rows));
  }

  buildTools() {
    this.modes = ["frames", "video"].map((mode) => this.button(`stg-mode stg-mode-${mode}`, mode === "frames" ? "Frames" : "Video",
      () => this.set({ mode, playing: mode === "video" })));
    this.play = this.button("stg-play", "", () => this.togglePlay());
    this.difference = this.button("stg-difference", `± Difference from ${this.reference}`, () => this.set({ difference: !this.get("difference") }));
    this.difference.disabled = !this.canDiffer;
    this.legend = h("span", { class: "stg-legend" });
    const key = (name) => h("kbd", {}, name);
    return h("div", { class: "stg-tools" },
      h("div", { class: "stg-group", role: "group", "aria-label": "Show as" }, ...this.modes), this.play, this.difference, this.buildZoom(),
      this.legend, h("span", { class: "stg-keys" }, key("←"), " ", key("→"), " step   ", key("space"), " play   ", key("−"), " ", key("+"), " zoom"));
  }

  buildZoom() {
    const group = h("div", { class: "stg-group", role: "group", "aria-label": "Size of the pictures" },
      this.button("stg-smaller", "−", () => this.zoom(-1), { "aria-label": "Smaller pictures" }),
      this.button("stg-fit", "fit", () => this.set({ size: 0 }), { "aria-label": "Pictures that fill the cell" }),
      this.button("stg-larger", "+", () => this.zoom(1), { "aria-label": "Larger pictures" }));
    [this.smaller, this.fit, this.larger] = group.children;
    return group;
  }

  /** The model's own decoding of a step, where pictures are only a linear preview. */
  buildDecode() {
    if (!this.view.decodable) return null;
    return this.buildWork("Decode this step", () => this.set({ asked: this.get("asked") + 1 }));
  }

  buildRow(row) {
    const tiles = h("div", { class: "stg-tiles" });
    const note = h("span", { class: "stg-note" }, row.note);
    const node = h("section", { class: row.computed ? "stg-branch" : "stg-branch stg-final", "data-branch": row.name, "aria-label": `${row.label}: ${row.note}` },
      h("div", { class: "stg-label" }, h("span", { class: "stg-name" }, row.label), note), tiles);
    node.style.setProperty("--stg-colour", row.colour);
    return { ...row, node, tiles, noteNode: note, why: h("div", { class: "stg-why" }, h("span", {}, "not computed at this step")) };
  }

  // --- answering ------------------------------------------------------------------------------------------------

  zoom(by) {
    const now = Math.round(this.tile);
    const next = by > 0 ? SIZES.find((size) => size > now) : SIZES.findLast((size) => size < now);
    if (next) this.set({ size: next });
  }

  onKey(event) {
    const by = { "+": 1, "=": 1, "-": -1 }[event.key];
    if (by && event.target.tagName !== "SELECT" && !event.ctrlKey && !event.altKey && !event.metaKey) { // with them the browser zooms
      this.zoom(by);
      event.preventDefault();
    } else if (event.key === " " && !["BUTTON", "SELECT"].includes(event.target.tagName)) { // a button answers to the space bar by itself
      this.togglePlay();
      event.preventDefault();
    } else super.onKey(event);
  }

  togglePlay() {
    const video = this.get("mode") === "video";
    this.set({ mode: "video", playing: !(video && this.get("playing")) });
  }

  // --- showing --------------------------------------------------------------------------------------------------

  async refresh() {
    const [sample, key] = [this.get("sample"), this.decodedKey];
    await Promise.all(this.rows.map((row) => this.sheets.load(row.name, sample)));
    await Promise.all(this.rows.filter((row) => this.get("pictures")?.[`${row.name}/${key}`]).map((row) => this.moving.load(row.name, key)));
    if (sample !== this.get("sample")) return; // another one was chosen meanwhile, and has its own refresh
    this.sample = sample; // its pictures are ready: from now on it is painted, also while videos play
    this.layout();
    this.showControls();
    this.paint();
    this.root.dataset.ready = "true"; // from now on a change of width paints too
    this.run();
  }

  showControls() {
    const [mode, playing] = [this.get("mode"), this.get("playing")];
    this.showSteps();
    this.modes.forEach((button, i) => button.setAttribute("aria-pressed", String((mode === "video") === (i === 1))));
    const moving = mode === "video" && playing;
    this.play.replaceChildren(icon(moving ? "pause" : "play"), moving ? "Pause" : "Play");
    this.play.setAttribute("aria-label", moving ? "Pause the videos" : "Play the videos");
    this.difference.setAttribute("aria-pressed", String(this.differing));
    this.fit.setAttribute("aria-pressed", String(!this.get("size")));
    if (this.view.decodable) {
      this.showWork();
      this.starter.disabled ||= Boolean(this.decodedSize);
      this.starter.textContent = this.decodedSize ? "This step is decoded" : "Decode this step";
    }
    this.showLegend();
  }

  /** What is not to be seen as it is: differences, smaller pictures, frames that have no room. */
  showLegend() {
    const { shrink, frames } = this.view;
    const left = this.get("mode") === "video" ? "" : framesText(this.shown?.length ?? frames, frames);
    this.legend.textContent = [this.differing ? `grey = equal, signed, gain ×${+this.get("gain").toFixed(2)}` : "",
      shrink > 1 && !this.differing ? `pictures at 1/${shrink} of their size` : "",
      left ? `${left}${this.get("size") ? "; − shows more" : "; wider shows more"}` : ""].filter(Boolean).join(" · ");
  }

  /** What the pictures of this step and sample, once decoded, are called. */
  get decodedKey() {
    return `${this.get("sample")}@${this.get("step")}`;
  }

  /** Their size, {frames, width, height}, or undefined where this step is not decoded. */
  get decodedSize() {
    return (this.get("decoded") ?? {})[this.decodedKey];
  }

  get differing() {
    return this.canDiffer && this.get("difference");
  }

  /** Choose how large tiles are and which frames are shown, and make as many canvases as that takes. */
  layout() {
    const inner = (this.root.clientWidth || 900) - 32;
    const video = this.get("mode") === "video";
    const { frames, width, height, rows, settings } = this.view;
    const stacked = video || inner < 560; // too narrow for names beside the pictures
    const room = stacked ? inner : inner - NAMES;
    const wish = this.get("size");
    const most = video ? rows.length : Math.max(1, Math.floor((room + GAP) / (Math.max(wish, SMALLEST) + GAP)));
    const shown = video ? [this.frame] : spread(frames, Math.min(frames, most));
    const gap = video ? 12 : GAP;
    const columns = video ? rows.length : shown.length;
    const share = (room - gap * (columns - 1)) / columns;
    const told = settings?.length ? 85 + 21 * settings.length : 0; // settings that differ, below the rows
    const high = stacked ? Infinity : Math.max((SIGHT - AROUND - told) / this.rows.length - 5, 48); // of a row, so that all are in sight
    const tile = wish || whole(video ? Math.min(Math.max(share, 112), 256) : Math.min(share, 128, (high * width) / height), width);
    this.tile = tile;
    const strip = columns * (tile + gap) - gap;
    this.root.dataset.mode = video ? "video" : "frames";
    this.root.classList.toggle("stg-narrow", stacked && !video);
    this.root.style.setProperty("--stg-tile", `${tile}px`);
    this.root.style.setProperty("--stg-tile-high", `${(tile * height) / width}px`);
    this.root.style.setProperty("--stg-name", `${Math.min(Math.max(inner - strip - 12, NAMES - 12), 280)}px`);
    if (this.root.dataset.ready) this.paintTrack();
    if (String(shown) === String(this.shown) && !video) return;
    const remade = this.shown?.length !== shown.length;
    this.shown = shown;
    this.axis.replaceChildren(...shown.map((frame) => h("span", {}, frame)));
    if (remade) this.rows.forEach((row) => this.makeTiles(row));
    this.showLegend();
    if (this.root.dataset.ready) this.paint();
  }

  makeTiles(row) {
    const { width, height } = this.view;
    row.canvases = this.shown.map(() => h("canvas", { class: "stg-tile", width, height, role: "img" }));
    row.contexts = row.canvases.map((canvas) => canvas.getContext("2d", { willReadFrequently: true }));
    row.tiles.replaceChildren(...row.canvases, row.why);
  }

  paint() {
    this.paintTrack();
    this.rows.forEach((row) => this.paintRow(row));
  }

  paintRow(row) {
    const [step, sample] = [row.computed ? this.get("step") : 0, this.sample];
    const there = !row.computed || row.computed[step];
    const differ = this.differing && row.computed && row.name !== this.reference;
    row.node.classList.toggle("stg-missing", !there);
    row.why.hidden = there;
    row.noteNode.textContent = this.differing && row.name === this.reference ? "the reference" : differ ? `${row.label} − ${this.reference}` : row.note;
    const own = this.source(row, step, sample);
    const reference = differ ? this.source(this.rows.find(({ name }) => name === this.reference), step, sample) : null;
    const [from, cond] = differ && own.decoded !== reference.decoded ? [this.preview(row, step, sample), this.preview({ name: this.reference, computed: row.computed }, step, sample)] : [own, reference];
    this.shown.forEach((frame, i) => {
      const canvas = row.canvases[i];
      canvas.dataset.frame = frame;
      canvas.setAttribute("aria-label", `${row.label}, frame ${frame}`);
      if (canvas.width !== from.width || canvas.height !== from.height) Object.assign(canvas, { width: from.width, height: from.height });
      if (!there) return row.contexts[i].clearRect(0, 0, canvas.width, canvas.height);
      const pixels = from.picture(frame);
      if (differ) subtract(pixels.data, cond.picture(frame).data, this.get("gain"));
      row.contexts[i].putImageData(pixels, 0, 0);
    });
  }

  /** Where the pictures of a row at a step come from: the model's own decoding if it is there, else the sheet. */
  source(row, step, sample) {
    const size = row.computed ? this.decodedSize : null;
    const context = size && this.moving.get(row.name, this.decodedKey);
    if (!context) return this.preview(row, step, sample);
    const { frames, width, height } = size;
    const at = (frame) => Math.round((frame * (frames - 1)) / Math.max(this.view.frames - 1, 1)); // a preview has fewer frames
    return { width, height, decoded: true, picture: (frame) => context.getImageData(at(frame) * width, 0, width, height) };
  }

  preview(row, step, sample) {
    const { width, height } = this.view;
    const context = this.sheets.get(row.name, sample);
    return { width, height, decoded: false, picture: (frame) => context.getImageData(frame * width, step * height, width, height) };
  }

  paintTrack() {
    this.paintRibbon(this.view.rows[this.view.rows.length - 1].name, this.sample); // what the sampler used
  }

  /** Keep the frames moving while videos play. */
  run() {
    const moving = this.get("mode") === "video" && this.get("playing");
    this.animate(moving, this.frame, this.get("mode") === "video" ? this.view.frames : 0, (frame) => {
      this.frame = frame;
      this.shown = [frame];
      this.paint();
    });
  }
}

/** `count` of the numbers below `total`, evenly spread, the first and the last among them. */
function spread(total, count) {
  if (count === 1) return [0];
  return Array.from({ length: count }, (_, i) => Math.round((i * (total - 1)) / (count - 1)));
}

/** Small pictures are enlarged by halves of a device pixel, so that all their pixels look about equally large. */
function whole(room, width) {
  const unit = width / (window.devicePixelRatio || 1);
  return room >= unit ? Math.floor((room / unit) * 2) * (unit / 2) : room;
}

const render = renderer(X0Explorer);
export default { render };
