// How a plotly figure looks on a page of ours: fitted to its column, and readable on a light and on a dark ground.

/** The figure's layout for a narrow column: the page has its title, and the legend goes below. */
function fitted(layout, width) {
  if (width > 560) return layout;
  const legend = { ...layout.legend, orientation: "h", x: 0, y: -0.22, xanchor: "left", yanchor: "top" };
  return { ...layout, title: undefined, legend, margin: { l: 50, r: 6, t: 12, b: 60 }, height: (layout.height ?? 380) + 60 };
}

/** The same on a dark page with text, grid and background that can be read there. */
function themed(layout, dark) {
  if (!dark) return { ...layout, paper_bgcolor: "rgba(0,0,0,0)" };
  const lines = { gridcolor: "#363a43", zerolinecolor: "#4b505c", linecolor: "#4b505c" };
  const axes = new Set(["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))]);
  const own = Object.fromEntries([...axes].map((key) => [key, { ...layout[key], ...lines }]));
  const clear = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" };
  return { ...layout, ...own, ...clear, font: { ...layout.font, color: "#eceef2" } };
}

/** Black lines stay visible on a dark page. */
function visible(trace, dark) {
  const black = /^(#000(000)?|black)$/i;
  if (!dark) return trace;
  const lift = (part) => (part && black.test(part.color ?? "") ? { ...part, color: "#eceef2" } : part);
  return { ...trace, ...(trace.line && { line: lift(trace.line) }), ...(trace.marker && { marker: lift(trace.marker) }) };
}
