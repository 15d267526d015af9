// Plots are drawn in the page's own colours when they are scrolled near; plotly.js is unpacked before the first of them.
const { config, figures } = JSON.parse(document.getElementById("plot-data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
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
    const shown = themed(fitted(layout, node.clientWidth), dark.matches);
    await Plotly.react(node, data.map((trace) => visible(trace, dark.matches)), shown, config);
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
