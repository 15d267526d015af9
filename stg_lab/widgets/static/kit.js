// What all explorers share. Joined in front of an explorer's own module, for notebooks (anywidget calls `render`) and for
// stand-alone pages, which call the same function with a model of their own. Nothing here asks a network.

const SVG_NS = "http://www.w3.org/2000/svg";
const SVG = { play: "M2 0 11 5.5 2 11z", pause: "M1 0h3.5v11H1zM6.5 0H10v11H6.5z", stop: "M1 1h9v9H1z" };

/** An element with attributes and children; functions become listeners, null and false are left out. */
function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for a piece of SVG. */
function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG_NS, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== null && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function icon(name) {
  return s("svg", { viewBox: "0 0 11 11", "aria-hidden": "true" }, s("path", { d: SVG[name] }));
}

/** A number in about three digits. */
function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  return size >= 1000 || size < 0.001 ? value.toExponential(1) : size >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

/** That a strip leaves some frames out; "" where all are there. */
function framesText(shown, all) {
  return shown < all ? `${shown} of ${all} frames` : "";
}

/** Whatever bytes arrive as (DataView from a kernel, Uint8Array on a page), as an aligned buffer of their own. */
function bufferOf(bytes) {
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}

/** Numbers by name: typed arrays with a shape, written by `stg_lab.widgets.base.packed`. */
class Arrays {
  constructor(model) {
    this.model = model;
    this.ready = new Map();
  }

  /** {data, shape, scale}: the value at an index is `data[index] * scale`. */
  get(name) {
    if (this.ready.has(name)) return this.ready.get(name);
    const [bytes, about] = [this.model.get("arrays")[name], this.model.get("view").arrays[name]];
    if (!bytes || !about) throw new Error(`the numbers of ${name} are missing`);
    const Kind = { float32: Float32Array, int16: Int16Array, uint8: Uint8Array }[about.dtype];
    const found = { data: new Kind(bufferOf(bytes)), shape: about.shape, scale: about.scale };
    this.ready.set(name, found);
    return found;
  }

  /** The numbers at leading indices, as a plain view: `at("norm", 0, 3)` of shape [2, 4, 5] has 5 values. */
  at(name, ...index) {
    const { data, shape, scale } = this.get(name);
    const length = shape.slice(index.length).reduce((a, b) => a * b, 1);
    const from = index.reduce((place, i, axis) => place * shape[axis] + i, 0) * length;
    const part = data.subarray(from, from + length);
    return scale === 1 ? part : Float32Array.from(part, (value) => value * scale);
  }
}

/** Sprite sheets by "row/sample", decoded when first asked for; `trait` holds them. */
class Sheets {
  constructor(model, trait = "sheets") {
    Object.assign(this, { model, trait });
    this.ready = new Map();
  }

  /** The 2D context that holds a sheet, or undefined while it is not decoded. */
  get(row, sample) {
    return this.ready.get(`${row}/${sample}`)?.context;
  }

  async load(row, sample) {
    const key = `${row}/${sample}`;
    const bytes = this.model.get(this.trait)?.[key];
    if (!bytes) throw new Error(`the pictures of ${key} are missing`);
    if (this.ready.get(key)?.bytes === bytes) return;
    const blob = new Blob([bytes], { type: "image/png" });
    const image = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const canvas = h("canvas", { width: image.width, height: image.height });
    const context = canvas.getContext("2d", { willReadFrequently: true }); // in memory, where reading back is cheap
    context.drawImage(image, 0, 0);
    this.ready.set(key, { context, bytes });
  }
}

/**
 * What the parts of an explorer do, told in two places: as a tooltip on each, and all together behind the key "?".
 * `entries` are [selector, name, words]; those that match nothing are left out, and of several for one part the first counts.
 */
class Help {
  constructor(root, entries) {
    this.root = root;
    const rows = [];
    for (const [selector, name, words] of entries) {
      const parts = [...root.querySelectorAll(selector)].filter((part) => !part.dataset.told);
      if (!parts.length) continue;
      for (const part of parts) {
        part.title ||= words;
        part.dataset.told = "true";
      }
      rows.push(h("dt", {}, name), h("dd", {}, words));
    }
    const keys = root.querySelector(".stg-keys");
    this.panel = h("div", { class: "stg-help", role: "dialog", "aria-label": "What the parts do", hidden: "" }, h("dl", {}, ...rows),
      keys ? h("p", { class: "stg-help-keys" }, "Keys: ", ...[...keys.cloneNode(true).childNodes]) : "");
    this.key = h("button", { type: "button", class: "stg-help-key", "aria-expanded": "false", "aria-label": "Help", title: "What the parts do (key ?)",
      click: () => this.show(this.panel.hidden) }, "?");
    root.querySelector(".stg-head").append(this.key, this.panel);
    for (const kind of ["pointerdown", "focusin"]) root.addEventListener(kind, ({ target }) => {
      if (!this.panel.contains(target) && target !== this.key) this.show(false);
    });
  }

  show(open) {
    this.panel.hidden = !open;
    this.key.setAttribute("aria-expanded", String(open));
  }

  /** Whether the key was one of its own. */
  onKey(event) {
    const own = event.key === "?" ? event.target.type !== "text" : event.key === "Escape" && !this.panel.hidden;
    if (own) {
      this.show(event.key === "?" && this.panel.hidden);
      event.preventDefault();
      event.stopPropagation();
    }
    return own;
  }
}

const SHARED_HELP = [
  [".stg-scrub", "Steps", "The steps of the run, from noise to video. Drag, click, or press the arrow keys."],
  [".stg-readout", "σ and t", "How noisy the step is: the noise level, and the time step that the model is given."],
  [".stg-sample", "Sample", "Which video of the batch is shown; sample i has the seed of the first one + i."],
  [".stg-play", "Play", "Lets the frames run in a loop, all at the same frame."],
  [".stg-link", "Link", "Moves the steps of all explorers on the page together, each to the same share of its own run."],
  [".stg-guidance", "Guidance", "The guidance that the run was sampled under, as one types it."],
];

/** Pixels of height in which an explorer is seen whole: on a screen of 1280 x 800, and more on higher ones. */
const SIGHT = Math.max(780, Math.min(screen.height - 220, 1100));

/**
 * An explorer in a cell. A subclass has `static CLASS`, `static LABEL`, `static STATE` (the traits it follows), `static HELP`
 * (see `Help`), and `build()` -> nodes; `refresh()` shows the state, `layout()` answers to the width. `view.steps` and `view.samples`, where
 * there are any, get a slider and a chooser from `buildSteps` and `buildHead`.
 */
class Explorer {
  static SAVES = true; // whether what is shown may be saved by a button

  constructor(model, el) {
    Object.assign(this, { model, view: model.get("view"), sheets: new Sheets(model), arrays: new Arrays(model) });
    this.last = (this.view.steps?.length ?? 1) - 1;
    this.prepare();
    this.error = h("div", { class: "stg-error", role: "alert", hidden: "" });
    this.root = h("div", { class: `stg-lab ${this.constructor.CLASS}`, role: "group", tabindex: "-1",
      "aria-label": this.constructor.LABEL, keydown: this.guard((event) => this.help.onKey(event) || this.onKey(event)) }, ...this.build(), this.error);
    this.help = new Help(this.root, [...this.constructor.HELP, ...SHARED_HELP]);
    if (this.constructor.SAVES) this.share = new Share(this);
    this.suppress();
    el.append(this.root);
    this.changed = this.guard(() => this.show());
    for (const name of this.followed) model.on(`change:${name}`, this.changed);
    this.resized = new ResizeObserver(this.guard(() => this.layout()));
    this.resized.observe(this.root);
    this.changed();
  }

  prepare() {}
  build() { return []; }
  refresh() {}
  layout() {}

  get followed() {
    return [...this.constructor.STATE, "problem"];
  }

  /** JupyterLab takes the arrow keys for itself unless the focused element, not one around it, carries this mark. */
  suppress() {
    for (const node of [this.root, ...this.root.querySelectorAll("input, select, button")]) node.dataset.lmSuppressShortcuts = "true";
  }

  dispose() {
    for (const name of this.followed) this.model.off(`change:${name}`, this.changed);
    this.resized.disconnect();
    this.links?.dispose();
    cancelAnimationFrame(this.animation);
  }

  /** Held videos keep their frame, so that a reader comes back to the same pictures. */
  togglePlay() {
    const playing = !this.get("playing");
    this.set(playing ? { playing } : { playing, frame: this.frame });
  }

  /** While it is `moving`, call `paint(frame)` for each of so many frames in turn, at the view's speed; begins at a frame. */
  animate(moving, from, frames, paint) {
    cancelAnimationFrame(this.animation);
    this.reel = frames > 1 ? { frames, paint } : null;
    if (!moving || frames < 2) return;
    const since = performance.now() - (from * 1000) / this.view.fps;
    let shown = from;
    const tick = (now) => {
      const frame = Math.floor((Math.max(now - since, 0) / 1000) * this.view.fps) % frames;
      if (frame !== shown) paint((shown = frame));
      this.animation = requestAnimationFrame(tick);
    };
    this.animation = requestAnimationFrame(tick);
  }

  async show() {
    const problem = this.get("problem");
    this.error.hidden = !problem;
    this.error.textContent = problem ?? "";
    await this.refresh();
    this.root.dataset.ready = "true";
    this.root.dispatchEvent(new CustomEvent("stg-shown"));
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

  // --- pieces that most explorers have ----------------------------------------------------------------------------

  button(name, text, click, attributes = {}) {
    return h("button", { type: "button", class: name, click: this.guard(click), ...attributes }, text);
  }

  /** A row of buttons of which one is pressed: `options` are [value, label]; the value is the trait's. */
  choice(trait, options, label) {
    const buttons = options.map(([value, text]) => this.button(`stg-${trait} stg-${trait}-${value}`, text, () => this.set({ [trait]: value })));
    const group = h("div", { class: "stg-group", role: "group", "aria-label": label }, ...buttons);
    group.update = () => buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(this.get(trait) === options[i][0])));
    return group;
  }

  sampleName(sample, i) {
    const { samples } = this.view;
    return `${samples.length > 1 ? `${i}: ` : ""}${sample.caption || "(no caption)"}${(sample.seed ?? null) === null ? "" : ` · seed ${sample.seed}`}`;
  }

  /** Title, guidance, and the sample chooser where there are several. */
  buildHead(...title) {
    const { samples, guidance, preview } = this.view;
    this.chooser = h("select", { class: "stg-sample", "aria-label": "Sample", change: () => this.set({ sample: +this.chooser.value }) },
      ...samples.map((sample, i) => h("option", { value: i }, this.sampleName(sample, i))));
    return h("div", { class: "stg-head" }, h("span", { class: "stg-title" }, ...title),
      guidance ? h("span", { class: "stg-guidance" }, guidance) : null,
      preview ? h("span", { class: "stg-preview" }, preview) : null,
      samples.length > 1 ? this.chooser : h("span", { class: "stg-caption" }, this.sampleName(samples[0], 0)));
  }

  /** The steps: a slider over a ribbon, which `paintRibbon` fills, and what step it is. */
  buildSteps() {
    const count = this.view.steps.length;
    this.ribbon = h("canvas", { class: "stg-ribbon", "aria-hidden": "true" });
    this.slider = h("input", { class: "stg-step", type: "range", min: 0, max: this.last, step: 1, "aria-label": "Step",
      input: () => this.set({ step: +this.slider.value }) });
    this.readout = h("output", { class: "stg-readout", "aria-live": "off" });
    const scrub = h("div", { class: "stg-scrub" }, this.ribbon, this.slider);
    scrub.style.setProperty("--stg-cell", `${100 / count}%`);
    scrub.style.setProperty("--stg-track", `${Math.max(count * 44, 120)}px`);
    this.links = new Links(this);
    return h("div", { class: "stg-steps" }, scrub, this.readout, this.links.key);
  }

  showSteps() {
    const step = this.get("step");
    const { sigma, timestep, restart } = this.view.steps[step];
    const part = (name, value) => h("span", {}, `${name} `, h("b", {}, value));
    this.links.tell(step);
    this.slider.value = step;
    this.slider.setAttribute("aria-valuetext", `step ${step} of 0 to ${this.last}${sigma === null ? "" : `, sigma ${short(sigma)}`}`);
    if (this.chooser) this.chooser.value = this.get("sample");
    this.readout.replaceChildren(h("span", {}, "step ", h("b", {}, step), ` of 0–${this.last}`),
      restart ? h("span", {}, `restart ${restart}`) : "",
      ...(sigma === null ? [] : [part("σ", short(sigma))]), ...(timestep === null ? [] : [part("t", short(timestep))]));
  }

  /** The slider's track: the middle frame of a row of sprites, one cell a step. */
  paintRibbon(row, sample) {
    const { width, height, frames, steps } = this.view;
    const scale = window.devicePixelRatio || 1;
    const [cell, high] = [Math.round((this.ribbon.clientWidth / steps.length) * scale), Math.round(36 * scale)];
    if (!cell || this.ribbonOf === `${row}/${sample}/${cell}`) return;
    this.ribbonOf = `${row}/${sample}/${cell}`;
    const sheet = this.sheets.get(row, sample).canvas;
    const zoom = Math.min((cell - 1) / width, high / height);
    Object.assign(this.ribbon, { width: cell * steps.length, height: high });
    const context = this.ribbon.getContext("2d");
    context.imageSmoothingEnabled = zoom < 1; // smaller than they are, smooth pictures are easier to tell apart
    for (let k = 0; k < steps.length; k++) {
      const [x, y] = [cell * k + (cell - width * zoom) / 2, (high - height * zoom) / 2];
      context.drawImage(sheet, Math.floor(frames / 2) * width, k * height, width, height, x, y, width * zoom, height * zoom);
    }
  }

  /** Arrow keys move the step from anywhere but a field that needs them itself. */
  onKey(event) {
    const on = event.target;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.slider || on === this.slider || on.tagName === "SELECT" || on.type === "range" || on.type === "number") return;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    this.set({ step: Math.min(Math.max(this.get("step") + by, 0), this.last) });
    event.preventDefault();
  }
}

/** A colour that is seen on a light and on a dark ground; black becomes the text's own. */
function ink(colour) {
  return colour === "#000000" ? "var(--stg-text)" : `light-dark(${colour}, color-mix(in oklab, ${colour}, #fff 30%))`;
}

/** In place: signed difference around grey. The last of four values is opacity. */
function subtract(pixels, reference, gain) {
  for (let i = 0; i < pixels.length; i++) {
    if (i % 4 !== 3) pixels[i] = 127.5 + gain * (pixels[i] - reference[i]);
  }
}

/** The function that anywidget calls for an explorer. */
function renderer(Kind) {
  return ({ model, el }) => {
    try {
      const explorer = new Kind(model, el);
      return () => explorer.dispose();
    } catch (error) {
      el.append(h("div", { class: "stg-lab" }, h("div", { class: "stg-error", role: "alert" }, `The explorer failed: ${error.message}`)));
      console.error(error);
    }
  };
}
