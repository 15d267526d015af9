// Frames that hold explorers: as high as what is in them, and in the page's own light or dark look.
{
  const frames = () => document.querySelectorAll("iframe.stg-explorer");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const look = () => {
    const chosen = document.body.dataset.theme; // the theme's button sets it
    return chosen === "light" || chosen === "dark" ? chosen : system.matches ? "dark" : "light";
  };
  const tell = (frame) => frame.contentWindow?.postMessage({ stgLab: "look", look: look() }, "*");

  addEventListener("message", ({ source, data }) => {
    if (data?.stgLab !== "height" || !Number.isFinite(data.height)) return;
    for (const frame of frames()) if (frame.contentWindow === source) {
      frame.style.height = `${Math.ceil(data.height) + 2}px`;
      tell(frame); // it stands and listens
    }
  });
  addEventListener("DOMContentLoaded", () => {
    const told = () => frames().forEach(tell);
    new MutationObserver(told).observe(document.body, { attributeFilter: ["data-theme"] });
    system.addEventListener("change", told);
  });
}
