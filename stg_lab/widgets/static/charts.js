// Charts of explorers: small, live, in the page's own colours. Rich charts that stand alone are plotly's (`stg_lab.plots`).

const STOPS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"]; // viridis
const SIGNED = ["#2166ac", "#67a9cf", "#f0f0ee", "#ef8a62", "#b2182b"]; // blue to red: told apart without green

const parsed = (stops) => stops.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
const [VIRIDIS, DIVERGING] = [parsed(STOPS), parsed(SIGNED)];

/** [red, green, blue] at a place from 0 to 1 along stops. */
function along(stops, place) {
  const at = Math.min(Math.max(place, 0), 1) * (stops.length - 1);
  const [low, part] = [Math.min(Math.floor(at), stops.length - 2), at - Math.min(Math.floor(at), stops.length - 2)];
  return stops[low].map((value, i) => value + part * (stops[low + 1][i] - value));
}

const viridis = (place) => along(VIRIDIS, place);
const diverging = (place) => along(DIVERGING, place); // 0.5 is neutral
const css = (rgb) => `rgb(${rgb.map(Math.round).join(" ")})`;
/** Black or white, whichever reads better on a colour. */
const onto = ([r, g, b]) => (0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#111" : "#fff");

/** Paint a heat map (values row by row, `width` to a row) into a canvas; values that are not numbers stay clear. */
function paintHeat(canvas, values, width, low, high, colours = viridis) {
  const height = Math.round(values.length / width);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pixels = new ImageData(width, height);
  const span = high - low || 1;
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) continue;
    pixels.data.set([...colours((values[i] - low) / span), 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

/** A bar that says what the colours of a heat map mean. */
function colourBar(low, high, colours = viridis) {
  const stops = Array.from({ length: 9 }, (_, i) => css(colours(i / 8))).join(", ");
  const bar = h("span", { class: "stg-bar", "aria-hidden": "true" });
  bar.style.background = `linear-gradient(to right, ${stops})`;
  return h("span", { class: "stg-scale" }, short(low), bar, short(high));
}

/** Round numbers that cover a range. */
function ticks(low, high, count = 4) {
  const span = high - low || 1;
  const rough = span / count;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((m) => m * unit >= rough) * unit;
  const found = [];
  for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + 1e-9 * span; t += step) found.push(Math.abs(t) < step / 1e6 ? 0 : t);
  return found;
}

/**
 * Lines over a common axis, with a cursor that can be dragged.
 *
 * draw({x, series, cursor, low, high, mark}): `series` are {label, colour, y, dash, from, to} (`from`, `to`: a band), numbers that are
 * not finite leave gaps; `low`/`high` fix the vertical range; `mark` is a horizontal line. `pick(index)` is called when a place is chosen.
 */
class LinePlot {
  constructor({ title, xlabel = "", ylabel = "", height = 170, pick = null, label = "" }) {
    Object.assign(this, { title, xlabel, ylabel, height, pick, last: null });
    this.svg = s("svg", { class: "stg-plot-svg", role: "img", "aria-label": label || title });
    this.legend = h("div", { class: "stg-plot-legend" });
    this.heading = h("div", { class: "stg-plot-title" }, title);
    this.node = h("figure", { class: "stg-plot" }, this.heading, this.svg, this.legend);
    if (pick) {
      const choose = (event) => event.buttons & 1 && this.last && pick(this.indexAt(event.offsetX));
      this.svg.addEventListener("pointerdown", (event) => { this.svg.setPointerCapture(event.pointerId); choose(event); });
      this.svg.addEventListener("pointermove", choose);
      this.svg.classList.add("stg-picks");
    }
  }

  indexAt(px) {
    const { x, toX } = this.last;
    const apart = x.map((value) => Math.abs(toX(value) - px));
    return apart.indexOf(Math.min(...apart));
  }

  draw(given) {
    const { x, series, cursor = null, mark = null } = given;
    const width = Math.max(this.node.clientWidth || 360, 160);
    const [left, right, top, bottom] = [46, 10, 8, this.xlabel ? 36 : 22];
    const all = series.flatMap((one) => [...one.y, ...(one.from ?? []), ...(one.to ?? [])]).filter(Number.isFinite);
    if (mark !== null) all.push(mark);
    const low = given.low ?? Math.min(0, ...all);
    const high = given.high ?? (Math.max(...all, low + 1e-9) + 0.04 * (Math.max(...all, low) - low || 1));
    const span = x[x.length - 1] - x[0] || 1;
    const toX = (value) => left + ((value - x[0]) / span) * (width - left - right);
    const toY = (value) => top + (1 - (value - low) / (high - low)) * (this.height - top - bottom);
    this.last = { x, toX };
    const grid = ticks(low, high).map((t) => s("g", {}, s("line", { class: "stg-grid", x1: left, x2: width - right, y1: toY(t), y2: toY(t) }),
      s("text", { class: "stg-tick", x: left - 6, y: toY(t) + 3.5, "text-anchor": "end" }, +t.toPrecision(4))));
    const every = ticks(x[0], x[x.length - 1], Math.min(x.length, 8)).map((t) => s("text",
      { class: "stg-tick", x: toX(t), y: this.height - bottom + 15, "text-anchor": "middle" }, +t.toPrecision(4)));
    const names = [s("text", { class: "stg-tick", x: (left + width - right) / 2, y: this.height - 4, "text-anchor": "middle" }, this.xlabel),
      s("text", { class: "stg-tick", transform: `translate(11 ${(top + this.height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, this.ylabel)];
    const bands = series.filter((one) => one.from).map((one) => {
      const path = [...one.to.map((y, i) => [x[i], y]), ...one.from.map((y, i) => [x[i], y]).reverse()].filter(([, y]) => Number.isFinite(y));
      const shape = s("path", { class: "stg-band", d: path.length ? `M${path.map(([a, b]) => `${toX(a)} ${toY(b)}`).join("L")}Z` : "" });
      shape.style.fill = ink(one.colour);
      return shape;
    });
    const lines = series.map((one) => {
      let pen = "M";
      const d = one.y.map((y, i) => {
        if (!Number.isFinite(y)) { pen = "M"; return ""; }
        const piece = `${pen}${toX(x[i]).toFixed(1)} ${toY(y).toFixed(1)}`;
        pen = "L";
        return piece;
      }).join("");
      const line = s("path", { class: "stg-line", d, "data-series": one.label });
      line.style.stroke = ink(one.colour);
      if (one.dash) line.style.strokeDasharray = one.dash;
      return line;
    });
    const at = cursor === null ? [] : [s("line", { class: "stg-cursor", x1: toX(x[cursor]), x2: toX(x[cursor]), y1: top, y2: this.height - bottom }),
      ...series.filter((one) => Number.isFinite(one.y[cursor])).map((one) => {
        const dot = s("circle", { class: "stg-dot", cx: toX(x[cursor]), cy: toY(one.y[cursor]), r: 4 });
        dot.style.fill = ink(one.colour);
        return dot;
      })];
    const rule = mark === null ? [] : [s("line", { class: "stg-mark", x1: left, x2: width - right, y1: toY(mark), y2: toY(mark) })];
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", this.height);
    this.svg.replaceChildren(...grid, ...every, ...names, ...bands, ...rule, ...lines, ...at);
    this.legend.replaceChildren(...series.map((one) => {
      const swatch = h("i", {});
      swatch.style.background = ink(one.colour);
      if (one.dash) swatch.classList.add("stg-dashed");
      return h("span", {}, swatch, `${one.label} `, cursor === null ? null : h("b", {}, short(one.y[cursor])));
    }));
  }
}
