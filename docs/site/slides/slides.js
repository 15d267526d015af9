const slides = [...document.querySelectorAll("section")];
const place = document.getElementById("place");
let now = Math.min(Math.max(+location.hash.slice(1) - 1 || 0, 0), slides.length - 1);

function show(number) {
  now = Math.min(Math.max(number, 0), slides.length - 1);
  slides[now].scrollIntoView();
  place.textContent = `${now + 1} / ${slides.length}`;
  history.replaceState(null, "", `#${now + 1}`);
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const by = { ArrowRight: 1, ArrowDown: 1, " ": 1, PageDown: 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1 }[event.key];
  if (event.key === "c") document.querySelectorAll("details.code").forEach((one) => { one.open = !one.open; });
  else if (by) show(now + by);
  else return;
  event.preventDefault();
});

for (const place of document.querySelectorAll(".plot")) {
  const { data, layout } = JSON.parse(place.nextElementSibling.textContent);
  Plotly.newPlot(place, data, { ...layout, autosize: true, width: undefined, height: undefined }, { responsive: true, displaylogo: false });
}
show(now);
