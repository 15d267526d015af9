// Plots of the notebooks, drawn when they are scrolled near, in the page's own light or dark look.
{
  const here = new URL(".", document.currentScript.src);
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.body.dataset.theme === "auto" ? system.matches : document.body.dataset.theme === "dark");
  const places = () => document.querySelectorAll(".stg-plotly");
  let loaded; // the library, once it is asked for

  function library() {
    loaded ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      Object.assign(script, { src: new URL("plotly.min.js", here).href, onload: resolve, onerror: () => reject(new Error("plotly.min.js is missing")) });
      document.head.append(script);
    });
    return loaded;
  }

  async function draw(place) {
    place.dataset.drawn = "true";
    try {
      await library();
      const { data, layout } = JSON.parse(place.nextElementSibling.textContent);
      const shown = themed(fitted({ ...layout, width: undefined }, place.clientWidth), dark());
      await Plotly.react(place, data.map((trace) => visible(trace, dark())), shown, { displaylogo: false, showSendToCloud: false, responsive: true });
    } catch (error) {
      console.error(error);
      place.textContent = `The plot could not be drawn: ${error.message}`;
    }
  }

  addEventListener("DOMContentLoaded", () => {
    const near = new IntersectionObserver((seen) => {
      for (const { isIntersecting, target } of seen) if (isIntersecting && !target.dataset.drawn) draw(target);
    }, { rootMargin: "600px" });
    places().forEach((place) => near.observe(place));
    const again = () => document.querySelectorAll(".stg-plotly[data-drawn]").forEach(draw);
    new MutationObserver(again).observe(document.body, { attributeFilter: ["data-theme"] });
    system.addEventListener("change", again);
  });
}
