// The live run: the latest step's predictions, and a trail of what the sampler stepped with.

class LiveRun extends Working {
  static CLASS = "stg-live";
  static LABEL = "A run in the background";
  static STATE = ["sample"];
  static HELP = [
    [".stg-stop", "Stop", "Ends the run after this step; all whole steps are kept."],
    [".stg-so-far", "So far", "What the sampler stepped with at each step."],
    [".stg-rows", "Rows", "What every branch predicts at the latest step."],
  ];

  get followed() {
    return [...super.followed, "told"];
  }

  build() {
    this.rows = new Map();
    this.strips = h("div", { class: "stg-rows" });
    this.trail = h("canvas", { class: "stg-trail", role: "img", "aria-label": "guided at each step so far" });
    this.readout = h("output", { class: "stg-readout", "aria-live": "off" });
    this.linear = h("span", { class: "stg-preview" });
    return [this.buildHead("Live run"), this.buildWork("", null),
      h("div", { class: "stg-so-far" }, this.trail, this.readout, this.linear), this.strips];
  }

  async refresh() {
    const [sample, now] = [this.get("sample"), this.get("told")];
    const told = now ?? {};
    const rows = told.rows ?? [];
    const there = (name) => Boolean(this.get("pictures")?.[`${name}/${sample}`]);
    await Promise.all([...rows.map((row) => row.name), "trail"].filter(there).map((name) => this.moving.load(name, sample)));
    if (sample !== this.get("sample") || now !== this.get("told")) return; // a later one has its own refresh
    this.showWork();
    if (this.chooser) this.chooser.value = sample;
    this.linear.textContent = told.note ?? "";
    this.showReadout(told);
    this.order(rows);
    this.shown = rows.filter((row) => there(row.name)).map((row) => [row, { ...told, ...row.size }, this.moving.get(row.name, sample)]);
    this.layout();
    this.paintSoFar(told, there("trail") ? this.moving.get("trail", sample).canvas : null);
  }

  layout() {
    const inner = (this.root.clientWidth || 900) - 32;
    const narrow = inner < 560;
    this.root.classList.toggle("stg-narrow", narrow);
    for (const [row, size, context] of this.shown ?? []) this.rows.get(row.name).paint(context, size, inner - (narrow ? 0 : 180));
  }

  /** The rows that there are, in their order; a run's weak models may begin and end on the way. */
  order(rows) {
    for (const row of rows) {
      if (this.rows.has(row.name)) this.rows.get(row.name).tell(row);
      else this.rows.set(row.name, new Strip(row));
    }
    const wanted = rows.map((row) => this.rows.get(row.name).node);
    if (wanted.length !== this.strips.children.length || wanted.some((node, i) => node !== this.strips.children[i])) this.strips.replaceChildren(...wanted);
  }

  showReadout({ step, steps, sigma, restart }) {
    if (step === undefined) return this.readout.replaceChildren();
    const part = (name, value) => h("span", {}, `${name} `, h("b", {}, value));
    this.readout.replaceChildren(h("span", {}, "step ", h("b", {}, step), ` of 0–${steps - 1}`), restart ? h("span", {}, `restart ${restart}`) : "",
      ...(sigma === null ? [] : [part("σ", short(sigma))]));
  }

  /** One cell for each step of the run; those to come are empty. */
  paintSoFar({ trail, steps }, pictures) {
    this.trail.hidden = !pictures;
    if (!pictures) return;
    const scale = window.devicePixelRatio || 1;
    const cells = Math.max(steps, trail);
    const [wide, high] = [pictures.width / trail, pictures.height];
    const cell = Math.min(44, Math.max(12, 900 / cells)) * scale;
    const zoom = Math.min((cell - scale) / wide, (40 * scale) / high);
    Object.assign(this.trail, { width: Math.round(cells * cell), height: Math.round(high * zoom) });
    this.trail.style.width = `${this.trail.width / scale}px`;
    const context = this.trail.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = zoom < 1;
    for (let k = 0; k < trail; k++) context.drawImage(pictures, k * wide, 0, wide, high, k * cell, 0, wide * zoom, high * zoom);
  }
}

const render = renderer(LiveRun);
export default { render };
