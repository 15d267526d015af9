// The page itself: explorers start when they are scrolled near, and recordings lie under tabs.
const code = JSON.parse(document.getElementById("explorer-code").textContent);
const places = [...document.querySelectorAll(".explorer")];
const tabs = [...document.querySelectorAll("[role=tab]")];
const panels = tabs.map((tab) => document.getElementById(tab.getAttribute("aria-controls")));

/** Every explorer is a module of its own, as in a notebook, so that their names do not meet. */
function start(place) {
  if (place.dataset.started) return;
  place.dataset.started = "true";
  const script = document.createElement("script");
  script.type = "module";
  script.textContent = `${code.before}\n${code.own[place.dataset.kind]}\n${code.after}\nmount(${JSON.stringify(place.id)});`;
  document.body.append(script);
}

const near = new IntersectionObserver((seen) => {
  for (const { isIntersecting, target } of seen) if (isIntersecting) start(target);
}, { rootMargin: "500px" });

/** Show one recording; its first explorer is what it was opened for, and starts at once. */
function open(id, focus = false) {
  tabs.forEach((tab, i) => {
    const chosen = panels[i].id === id;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    panels[i].hidden = !chosen;
    if (chosen && focus) tab.focus();
    if (chosen) tab.parentNode.scrollLeft = tab.offsetLeft - 40;
  });
  const first = document.getElementById(id)?.querySelector(".explorer");
  if (first) start(first);
}

/** The panel that an address within the page lies in. */
function panelOf(hash) {
  let place = null;
  try {
    place = document.getElementById(decodeURIComponent(hash.slice(1)));
  } catch {} // an address that cannot be decoded names nothing
  return place?.closest("[role=tabpanel]");
}

/** Follow the page's address; without one, show the first recording. */
function follow() {
  const panel = panelOf(location.hash);
  if (!panel) return;
  open(panel.id);
  document.getElementById(decodeURIComponent(location.hash.slice(1))).scrollIntoView();
}

function press(event, i) {
  const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (to === undefined) return;
  open(panels[(to + tabs.length) % tabs.length].id, true);
  event.preventDefault();
}

tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => {
    open(panels[i].id);
    history.replaceState(null, "", `#${panels[i].id}`); // a reload and a copied address come back here
  });
  tab.addEventListener("keydown", (event) => press(event, i));
});
if (tabs.length) {
  open(panels[0].id);
  follow();
  addEventListener("hashchange", follow);
} else if (places.length) start(places[0]);
// The first explorer is what the page was opened for; the others may wait until it stands.
(window.requestIdleCallback ?? setTimeout)(() => places.forEach((place) => near.observe(place)));
addEventListener("beforeprint", () => places.filter((place) => place.offsetParent).forEach(start));
