// A page of one explorer inside another page: it tells its height, and takes the light or dark look that it is told.
if (parent !== self) {
  const root = document.documentElement;
  const tell = () => parent.postMessage({ stgLab: "height", height: root.offsetHeight }, "*");
  addEventListener("message", ({ source, data }) => {
    if (source !== parent || data?.stgLab !== "look" || !["light", "dark"].includes(data.look)) return;
    root.style.colorScheme = data.look;
    document.body.dataset.jpThemeLight = String(data.look === "light"); // the mark that a notebook sets, which explorers follow
  });
  new ResizeObserver(tell).observe(root);
}
