// The x0 explorer. One module for notebooks (anywidget calls `render`) and for stand-alone pages, which call the same
// function with a model of their own. All pictures are in the model: nothing here asks a kernel or a network.

const SVG = { play: "M2 0 11 5.5 2 11z", pause: "M1 0h3.5v11H1zM6.5 0H10v11H6.5z" };
const GAP = 3; // pixels between tiles, as in the style sheet
const NAMES = 180; // width of the column of names with its gap
const SMALLEST = 34; // a film strip shows fewer frames rather than narrower ones

/** An element with attributes and children; functions become listeners, null and false are left out. */
function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== null && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

function icon(name) {
  const ns = "http://www.w3.org/2000/svg";
  const [svg, path] = [document.createElementNS(ns, "svg"), document.createElementNS(ns, "path")];
  svg.setAttribute("viewBox", "0 0 11 11");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", SVG[name]);
  svg.append(path);
  return svg;
}

const short = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

/** Sprite sheets by "row/sample", decoded when first asked for. */
class Sheets {
  constructor(model) {
    this.bytes = model.get("sheets");
    this.ready = new Map();
  }

  /** The 2D context that holds a sheet, or undefined while it is not decoded. */
  get(row, sample) {
    return this.ready.get(`${row}/${sample}`);
  }

  async load(row, sample) {
    const key = `${row}/${sample}`;
    if (this.ready.has(key)) return;
    if (!this.bytes[key]) throw new Error(`the pictures of ${key} are missing`);
    const blob = new Blob([this.bytes[key]], { type: "image/png" });
    const image = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const canvas = h("canvas", { width: image.width, height: image.height });
    const context = canvas.getContext("2d", { willReadFrequently: true }); // in memory, where reading back is cheap
    context.drawImage(image, 0, 0);
    this.ready.set(key, context);
  }
}

class Explorer {
  constructor(model, el) {
    Object.assign(this, { model, view: model.get("view"), sheets: new Sheets(model), frame: 0, shown: null, width: 0 });
    this.last = this.view.steps.length - 1;
    this.canDiffer = this.view.rows.some((row) => row.name === "cond") && this.view.rows.length > 1;
    el.append(this.build());
    this.changed = this.guard(() => this.refresh());
    for (const name of Explorer.STATE) model.on(`change:${name}`, this.changed);
    this.resized = new ResizeObserver(this.guard(() => this.layout()));
    this.resized.observe(this.root);
    this.changed();
  }

  static STATE = ["step", "sample", "mode", "playing", "difference", "gain", "size"];

  dispose() {
    for (const name of Explorer.STATE) this.model.off(`change:${name}`, this.changed);
    this.resized.disconnect();
    cancelAnimationFrame(this.timer);
  }

  /** The function, with errors shown in place: in a notebook nobody looks at the console. */
  guard(action) {
    return async (...given) => {
      try {
        await action(...given);
      } catch (error) {
        this.error.textContent = `The explorer failed: ${error.message}`;
        this.error.hidden = false;
        console.error(error);
      }
    };
  }

  get(name) {
    return this.model.get(name);
  }

  set(values) {
    for (const [name, value] of Object.entries(values)) this.model.set(name, value);
    this.model.save_changes();
  }

  // --- building, once -------------------------------------------------------------------------------------------

  build() {
    const { view } = this;
    this.error = h("div", { class: "stg-error", role: "alert", hidden: "" });
    this.rows = [...view.rows, ...view.finals].map((row) => this.buildRow(row));
    const branches = this.rows.slice(0, view.rows.length).map((row) => row.node);
    const finals = this.rows.slice(view.rows.length).map((row) => row.node);
    this.axis = h("div", { class: "stg-tiles" });
    this.root = h("div", { class: "stg-x0", role: "group", tabindex: "-1", "aria-label": "One-step predictions by step",
      keydown: this.guard((event) => this.onKey(event)) },
      this.buildHead(), this.buildSteps(), this.buildTools(),
      h("div", { class: "stg-axis", "aria-hidden": "true" }, h("span", {}, "frame"), this.axis),
      h("div", { class: "stg-rows" }, ...branches),
      finals.length ? h("div", { class: "stg-rule" }, finals.length > 1 ? "Final videos" : "Final video") : null,
      finals.length ? h("div", { class: "stg-rows" }, ...finals) : null, this.error);
    // JupyterLab takes the arrow keys for itself unless the focused element, not one around it, carries this mark.
    for (const node of [this.root, ...this.root.querySelectorAll("input, select, button")]) node.dataset.lmSuppressShortcuts = "true";
    return this.root;
  }

  buildHead() {
    const { samples, guidance, preview } = this.view;
    const name = (s, i) => `${samples.length > 1 ? `${i}: ` : ""}${s.caption || "(no caption)"}${s.seed === null ? "" : ` · seed ${s.seed}`}`;
    this.chooser = h("select", { class: "stg-sample", "aria-label": "Sample", change: () => this.set({ sample: +this.chooser.value }) },
      ...samples.map((s, i) => h("option", { value: i }, name(s, i))));
    return h("div", { class: "stg-head" },
      h("span", { class: "stg-title" }, "One-step predictions ", h("i", {}, "x", h("sub", {}, "0"))),
      guidance ? h("span", { class: "stg-guidance" }, guidance) : null,
      preview ? h("span", { class: "stg-preview" }, preview) : null,
      samples.length > 1 ? this.chooser : h("span", { class: "stg-caption" }, name(samples[0], 0)));
  }

  buildSteps() {
    const count = this.view.steps.length;
    this.ribbon = h("canvas", { class: "stg-ribbon", "aria-hidden": "true" });
    this.slider = h("input", { class: "stg-step", type: "range", min: 0, max: this.last, step: 1, "aria-label": "Step",
      input: () => this.set({ step: +this.slider.value }) });
    this.readout = h("output", { class: "stg-readout", "aria-live": "off" });
    const scrub = h("div", { class: "stg-scrub" }, this.ribbon, this.slider);
    scrub.style.setProperty("--stg-cell", `${100 / count}%`);
    scrub.style.setProperty("--stg-track", `${Math.max(count * 44, 120)}px`);
    return h("div", { class: "stg-steps" }, scrub, this.readout);
  }

  buildTools() {
    const button = (name, text, click) => h("button", { type: "button", class: name, click }, text);
    this.modes = ["frames", "video"].map((mode) => button(`stg-mode stg-mode-${mode}`, mode === "frames" ? "Frames" : "Video",
      () => this.set({ mode, playing: mode === "video" })));
    this.play = button("stg-play", "", () => this.togglePlay());
    this.difference = button("stg-difference", "± Difference from cond", () => this.set({ difference: !this.get("difference") }));
    this.difference.disabled = !this.canDiffer;
    this.legend = h("span", { class: "stg-legend" });
    const key = (name) => h("kbd", {}, name);
    return h("div", { class: "stg-tools" },
      h("div", { class: "stg-group", role: "group", "aria-label": "Show as" }, ...this.modes), this.play, this.difference,
      this.legend, h("span", { class: "stg-keys" }, key("←"), " ", key("→"), " step   ", key("space"), " play"));
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

  onKey(event) {
    const on = event.target;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (on.tagName === "SELECT" || event.ctrlKey || event.altKey || event.metaKey) return;
    if (by && on !== this.slider) {
      this.set({ step: Math.min(Math.max(this.get("step") + by, 0), this.last) });
    } else if (event.key === " " && on.tagName !== "BUTTON") { // a button answers to the space bar by itself
      this.togglePlay();
    } else return;
    event.preventDefault();
  }

  togglePlay() {
    const video = this.get("mode") === "video";
    this.set({ mode: "video", playing: !(video && this.get("playing")) });
  }

  // --- showing --------------------------------------------------------------------------------------------------

  async refresh() {
    const sample = this.get("sample");
    await Promise.all(this.rows.map((row) => this.sheets.load(row.name, sample)));
    if (sample !== this.get("sample")) return; // another one was chosen meanwhile, and has its own refresh
    this.sample = sample; // its pictures are ready: from now on it is painted, also while videos play
    this.layout();
    this.showControls();
    this.paint();
    this.root.dataset.ready = "true";
    this.run();
  }

  showControls() {
    const [step, mode, playing] = [this.get("step"), this.get("mode"), this.get("playing")];
    const { sigma, timestep } = this.view.steps[step];
    const part = (name, value) => h("span", {}, `${name} `, h("b", {}, value));
    this.slider.value = step;
    this.slider.setAttribute("aria-valuetext", `step ${step} of 0 to ${this.last}${sigma === null ? "" : `, sigma ${short(sigma)}`}`);
    this.chooser.value = this.get("sample");
    this.readout.replaceChildren(h("span", {}, "step ", h("b", {}, step), ` of 0–${this.last}`),
      this.view.steps[step].restart ? h("span", {}, `restart ${this.view.steps[step].restart}`) : "",
      ...(sigma === null ? [] : [part("σ", short(sigma))]), ...(timestep === null ? [] : [part("t", short(timestep))]));
    this.modes.forEach((button, i) => button.setAttribute("aria-pressed", String((mode === "video") === (i === 1))));
    const moving = mode === "video" && playing;
    this.play.replaceChildren(icon(moving ? "pause" : "play"), moving ? "Pause" : "Play");
    this.play.setAttribute("aria-label", moving ? "Pause the videos" : "Play the videos");
    this.difference.setAttribute("aria-pressed", String(this.differing));
    this.legend.textContent = this.differing ? `grey = equal, signed, gain ×${+this.get("gain").toFixed(2)}` : this.shrunkText();
  }

  shrunkText() {
    return this.view.shrink > 1 ? `pictures at 1/${this.view.shrink} of their size` : "";
  }

  get differing() {
    return this.canDiffer && this.get("difference");
  }

  /** Choose how large tiles are and which frames are shown, and make as many canvases as that takes. */
  layout() {
    const inner = (this.root.clientWidth || 900) - 32;
    const video = this.get("mode") === "video";
    const { frames, width, height, rows } = this.view;
    const stacked = video || inner < 560; // too narrow for names beside the pictures
    const room = stacked ? inner : inner - NAMES;
    const wish = this.get("size");
    const most = video ? rows.length : Math.max(1, Math.floor((room + GAP) / (Math.max(wish, SMALLEST) + GAP)));
    const shown = video ? [this.frame] : spread(frames, Math.min(frames, most));
    const gap = video ? 12 : GAP;
    const columns = video ? rows.length : shown.length;
    const share = (room - gap * (columns - 1)) / columns;
    const tile = wish || whole(video ? Math.min(Math.max(share, 112), 256) : Math.min(share, 128), width);
    const strip = columns * (tile + gap) - gap;
    this.root.dataset.mode = video ? "video" : "frames";
    this.root.classList.toggle("stg-narrow", stacked && !video);
    this.root.style.setProperty("--stg-tile", `${tile}px`);
    this.root.style.setProperty("--stg-tile-high", `${(tile * height) / width}px`);
    this.root.style.setProperty("--stg-name", `${Math.min(Math.max(inner - strip - 12, NAMES - 12), 280)}px`);
    if (this.root.dataset.ready) this.paintRibbon();
    if (String(shown) === String(this.shown) && !video) return;
    const remade = this.shown?.length !== shown.length;
    this.shown = shown;
    this.axis.replaceChildren(...shown.map((frame) => h("span", {}, frame)));
    if (remade) this.rows.forEach((row) => this.makeTiles(row));
    if (this.root.dataset.ready) this.paint();
  }

  makeTiles(row) {
    const { width, height } = this.view;
    row.canvases = this.shown.map(() => h("canvas", { class: "stg-tile", width, height, role: "img" }));
    row.contexts = row.canvases.map((canvas) => canvas.getContext("2d", { willReadFrequently: true }));
    row.tiles.replaceChildren(...row.canvases, row.why);
  }

  paint() {
    this.paintRibbon();
    this.rows.forEach((row) => this.paintRow(row));
  }

  paintRow(row) {
    const { width, height } = this.view;
    const [step, sample] = [row.computed ? this.get("step") : 0, this.sample];
    const there = !row.computed || row.computed[step];
    const differ = this.differing && row.computed && row.name !== "cond";
    row.node.classList.toggle("stg-missing", !there);
    row.why.hidden = there;
    row.noteNode.textContent = this.differing && row.name === "cond" ? "the reference" : differ ? `${row.label} − cond` : row.note;
    this.shown.forEach((frame, i) => {
      const [x, y] = [frame * width, step * height];
      row.canvases[i].dataset.frame = frame;
      row.canvases[i].setAttribute("aria-label", `${row.label}, frame ${frame}`);
      if (!there) return row.contexts[i].clearRect(0, 0, width, height);
      const pixels = this.sheets.get(row.name, sample).getImageData(x, y, width, height);
      if (differ) subtract(pixels.data, this.sheets.get("cond", sample).getImageData(x, y, width, height).data, this.get("gain"));
      row.contexts[i].putImageData(pixels, 0, 0);
    });
  }

  /** The slider's track: the middle frame of what the sampler used, one cell a step. */
  paintRibbon() {
    const { sample } = this;
    const { rows, width, height, frames, steps } = this.view;
    const scale = window.devicePixelRatio || 1;
    const [cell, high] = [Math.round((this.ribbon.clientWidth / steps.length) * scale), Math.round(36 * scale)];
    if (!cell || this.ribbonOf === `${sample}/${cell}`) return;
    this.ribbonOf = `${sample}/${cell}`;
    const sheet = this.sheets.get(rows[rows.length - 1].name, sample).canvas;
    const zoom = Math.min((cell - 1) / width, high / height);
    Object.assign(this.ribbon, { width: cell * steps.length, height: high });
    const context = this.ribbon.getContext("2d");
    context.imageSmoothingEnabled = zoom < 1; // smaller than they are, smooth pictures are easier to tell apart
    for (let k = 0; k < steps.length; k++) {
      const [x, y] = [cell * k + (cell - width * zoom) / 2, (high - height * zoom) / 2];
      context.drawImage(sheet, Math.floor(frames / 2) * width, k * height, width, height, x, y, width * zoom, height * zoom);
    }
  }

  /** Keep the frames moving while videos play. */
  run() {
    cancelAnimationFrame(this.timer);
    if (!(this.get("mode") === "video" && this.get("playing"))) return;
    const since = performance.now() - (this.frame * 1000) / this.view.fps;
    const tick = (now) => {
      const frame = Math.floor((Math.max(now - since, 0) / 1000) * this.view.fps) % this.view.frames;
      if (frame !== this.frame) {
        this.frame = frame;
        this.shown = [frame];
        this.paint();
      }
      this.timer = requestAnimationFrame(tick);
    };
    this.timer = requestAnimationFrame(tick);
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

/** In place: signed difference around grey. The last of four values is opacity. */
function subtract(pixels, reference, gain) {
  for (let i = 0; i < pixels.length; i++) {
    if (i % 4 !== 3) pixels[i] = 127.5 + gain * (pixels[i] - reference[i]);
  }
}

function render({ model, el }) {
  try {
    const explorer = new Explorer(model, el);
    return () => explorer.dispose();
  } catch (error) {
    el.append(h("div", { class: "stg-x0" }, h("div", { class: "stg-error", role: "alert" }, `The explorer failed: ${error.message}`)));
    console.error(error);
  }
}

export default { render };
