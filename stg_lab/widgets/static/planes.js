// Two drawings of vectors: a pair in the plane that it spans, and all of them in the plane of their principal components.

/** A piece of SVG in a colour of its own. */
function tinted(tag, attributes, colour, ...children) {
  const node = s(tag, attributes, ...children);
  node.style.color = ink(colour);
  return node;
}

/** A line from one place to another with a head at its end. */
function arrow([x1, y1], [x2, y2], colour, name) {
  const [length, size] = [Math.hypot(x2 - x1, y2 - y1), 9];
  if (length < 1) return s("g", { class: name });
  const [ux, uy] = [(x2 - x1) / length, (y2 - y1) / length];
  const [bx, by] = [x2 - size * ux, y2 - size * uy];
  const head = `M${x2} ${y2}L${bx - 4.5 * uy} ${by + 4.5 * ux}L${bx + 4.5 * uy} ${by - 4.5 * ux}Z`;
  const stem = length > size ? s("line", { x1, y1, x2: bx, y2: by }) : null;
  return tinted("g", { class: `stg-arrow ${name}` }, colour, stem, s("path", { d: head }));
}

/** Eq. 21 as a drawing: the vector, its part along the one that is kept, and what is left, at the true angle. */
class Corner {
  constructor() {
    this.svg = s("svg", { class: "stg-plot-svg", role: "img" });
    this.node = h("figure", { class: "stg-plot stg-corner" }, h("div", { class: "stg-plot-title" }, "Eq. 21 in the plane of the two"), this.svg);
  }

  draw({ kept, loser, angle, cosine, length, keptLength }, lines) {
    const [width, height] = [Math.max(this.node.clientWidth || 320, 220), 260];
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", height);
    if (!Number.isFinite(angle)) {
      this.svg.replaceChildren(s("text", { class: "stg-tick", x: width / 2, y: height / 2, "text-anchor": "middle" }, "no angle at this step"));
      return;
    }
    const at = (angle * Math.PI) / 180;
    const reach = Math.min(height - 86, (width - 60) / 2); // the loser's length in pixels
    const o = [width / 2, height - 48];
    const tip = [o[0] + reach * Math.cos(at), o[1] - reach * Math.sin(at)];
    const foot = [tip[0], o[1]];
    const text = (x, y, words, colour, anchor = "middle") => tinted("text", { class: "stg-arrow-text", x, y, "text-anchor": anchor }, colour, words);
    const bow = 30;
    const arc = `M${o[0] + bow} ${o[1]}A${bow} ${bow} 0 0 0 ${o[0] + bow * Math.cos(at)} ${o[1] - bow * Math.sin(at)}`;
    const side = Math.sign(cosine) || 1;
    const square = 7;
    const beside = Math.abs(tip[0] - o[0]) > 60 ? "middle" : side > 0 ? "start" : "end";
    this.svg.replaceChildren(
      s("line", { class: "stg-grid", x1: 16, x2: width - 16, y1: o[1], y2: o[1] }),
      s("path", { class: "stg-bow", d: arc }),
      s("text", { class: "stg-bow-text", x: o[0] + 46 * Math.cos(at / 2), y: o[1] - 46 * Math.sin(at / 2) + 2, "text-anchor": "start" }, `${angle.toFixed(1)}°`),
      s("path", { class: "stg-bow", d: `M${foot[0] - side * square} ${o[1]}v${-square}h${side * square}` }),
      arrow(o, [width - 20, o[1]], kept.colour, "stg-arrow-kept"),
      arrow(foot, tip, lines.left, "stg-arrow-left"),
      arrow(o, foot, lines.removed, "stg-arrow-removed"),
      arrow(o, tip, loser.colour, "stg-arrow-loser"),
      text(width - 20, o[1] + 34, `${kept.label}, RMS ${short(keptLength)}`, kept.colour, "end"),
      text(tip[0], tip[1] - 8, `${loser.label}, RMS ${short(length)}`, loser.colour),
      text((o[0] + foot[0]) / 2, o[1] + 17, `removed ${short(Math.abs(cosine) * length)}`, lines.removed, beside),
      text(foot[0] + side * 8, o[1] - 0.62 * (o[1] - tip[1]), `left ${short(Math.sin(at) * length)}`, lines.left, side > 0 ? "start" : "end"));
    this.svg.setAttribute("aria-label", `${loser.label} at ${angle.toFixed(1)} degrees to ${kept.label}`);
  }
}

/** Every vector's steps as a path among the first two principal components. */
class Plane {
  constructor(pick) {
    this.pick = pick;
    this.svg = s("svg", { class: "stg-plot-svg", role: "img", "aria-label": "Paths of the guidance vectors over the steps" });
    this.title = h("div", { class: "stg-plot-title" });
    this.legend = h("div", { class: "stg-plot-legend" });
    this.node = h("figure", { class: "stg-plot stg-plane" }, this.title, this.svg, this.legend);
  }

  draw(given) {
    const { vectors, paths, origin, explained, unit, step } = given;
    const [width, height, left, bottom] = [Math.max(this.node.clientWidth || 340, 200), 180, 26, 26];
    const to = fitted([...paths.flat(), origin], width - left - 14, height - bottom - 26, left + 4, 20);
    const o = to(origin);
    const order = vectors.map((_, v) => v).sort((a, b) => this.rank(given, a) - this.rank(given, b)); // the pair on top
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", height);
    const axis = (share, k) => `component ${k} (${Math.round(100 * share)} % of the variance)`;
    this.svg.replaceChildren(
      s("path", { class: "stg-grid", d: `M${left} 6V${height - bottom}H${width - 6}`, fill: "none" }),
      s("text", { class: "stg-tick", x: (left + width) / 2, y: height - 8, "text-anchor": "middle" }, axis(explained[0], 1)),
      s("text", { class: "stg-tick", transform: `translate(14 ${(height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, `component 2 (${Math.round(100 * explained[1])} %)`),
      s("path", { class: "stg-origin", d: `M${o[0] - 6} ${o[1]}h12M${o[0]} ${o[1] - 6}v12` }, s("title", {}, "no guidance: the vector 0")),
      ...order.map((v) => this.path(vectors[v], paths[v].map((point) => (Number.isFinite(point[0]) ? to(point) : null)), o, step, this.rank(given, v) > 0)));
    this.title.textContent = unit ? "Principal components of the directions" : "Principal components of the vectors";
    this.legend.replaceChildren(...vectors.map(({ label, colour }) => {
      const swatch = h("i", {});
      swatch.style.background = ink(colour);
      return h("span", {}, swatch, label);
    }), h("span", {}, "+ no guidance"));
  }

  rank({ i, j }, v) {
    return v === j ? 2 : v === i ? 1 : 0;
  }

  path({ name, label, colour }, points, origin, step, chosen) {
    const d = points.map((p, k) => (p ? `${k && points[k - 1] ? "L" : "M"}${p[0].toFixed(1)} ${p[1].toFixed(1)}` : "")).join("");
    const dots = points.map((p, k) => p && s("circle", { class: k === step ? "stg-stop stg-now" : "stg-stop", cx: p[0], cy: p[1],
      r: k === step ? 6 : chosen ? 3.5 : 2.5, "data-step": k, click: () => this.pick(k) }, s("title", {}, `${label}, step ${k}`)));
    const number = points[step] && chosen ? s("text", { class: "stg-arrow-text", x: points[step][0] + 9, y: points[step][1] - 6 }, step) : null;
    const ray = points[step] && chosen ? s("line", { class: "stg-ray", x1: origin[0], y1: origin[1], x2: points[step][0], y2: points[step][1] }) : null;
    return tinted("g", { class: chosen ? "stg-path stg-chosen" : "stg-path", "data-vector": name }, colour, s("path", { d }), ray, ...dots, number);
  }
}

/** Places in pixels for points, with one scale for both axes, so that angles stay what they are. */
function fitted(points, width, height, left, top) {
  const [xs, ys] = [0, 1].map((axis) => points.map((p) => p[axis]).filter(Number.isFinite));
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const zoom = Math.min(width / (x1 - x0 || 1), height / (y1 - y0 || 1));
  const [cx, cy] = [(x0 + x1) / 2, (y0 + y1) / 2];
  return ([x, y]) => [left + width / 2 + (x - cx) * zoom, top + height / 2 - (y - cy) * zoom];
}
