// Plots are drawn in the page's own colours when they are scrolled near; plotly.js is unpacked before the first of them.
const { config, figures } = JSON.parse(document.getElementById("plot-data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** The figure's layout for a narrow column: the page has its title, and the legend goes below. */
function fitted(layout, width) {
  if (width > 560) return layout;
  const legend = { ...layout.legend, orientation: "h", x: 0, y: -0.22, xanchor: "left", yanchor: "top" };
  return { ...layout, title: undefined, legend, margin: { l: 50, r: 6, t: 12, b: 60 }, height: (layout.height ?? 380) + 60 };
}

/** The same on a dark page with text, grid and background that can be read there. */
function themed(layout) {
  if (!dark.matches) return { ...layout, paper_bgcolor: "rgba(0,0,0,0)" };
  const lines = { gridcolor: "#363a43", zerolinecolor: "#4b505c", linecolor: "#4b505c" };
  const axes = new Set(["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))]);
  const own = Object.fromEntries([...axes].map((key) => [key, { ...layout[key], ...lines }]));
  const clear = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" };
  return { ...layout, ...own, ...clear, font: { ...layout.font, color: "#eceef2" } };
}

/** Black lines stay visible on a dark page. */
function visible(trace) {
  const black = /^(#000(000)?|black)$/i;
  if (!dark.matches) return trace;
  const lift = (part) => (part && black.test(part.color ?? "") ? { ...part, color: "#eceef2" } : part);
  return { ...trace, ...(trace.line && { line: lift(trace.line) }), ...(trace.marker && { marker: lift(trace.marker) }) };
}

let unpacked; // the library, once it is asked for

function library() {
  unpacked ??= unpack(document.getElementById("plotly-js").textContent).then((text) => {
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
  });
  return unpacked;
}

async function draw(node) {
  node.dataset.drawn = "true";
  try {
    await library();
    const { data, layout } = structuredClone(figures[+node.dataset.figure]);
    await Plotly.react(node, data.map(visible), themed(fitted(layout, node.clientWidth)), config);
  } catch (error) {
    console.error(error);
    node.textContent = `The plot could not be drawn: ${error.message}`;
  }
}

const near = new IntersectionObserver((seen) => {
  for (const { isIntersecting, target } of seen) if (isIntersecting && !target.dataset.drawn) draw(target);
}, { rootMargin: "500px" });
(window.requestIdleCallback ?? setTimeout)(() => document.querySelectorAll(".plotly-figure").forEach((node) => near.observe(node)));
dark.addEventListener("change", () => document.querySelectorAll(".plotly-figure[data-drawn]").forEach(draw));
