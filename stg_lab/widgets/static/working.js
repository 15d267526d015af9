// What explorers that compute share: start and stop, progress, and strips and players of pictures that come while they work.

class Working extends Explorer {
  prepare() {
    this.moving = new Sheets(this.model, "pictures"); // of the step that is on its way
    this.live = Boolean(this.model.widget_manager); // else a page without a kernel, where nothing can be computed
  }

  get followed() {
    return [...super.followed, "status", "progress", "running", "pictures", "sheets"];
  }

  /** A bar of start (if any), stop, progress and status. */
  buildWork(text, start) {
    this.starter = start ? this.button("stg-start", text, start) : null;
    this.stopper = this.button("stg-stop", "", () => this.set({ stop: true }));
    this.stopper.append(icon("stop"), start ? "Cancel" : "Stop");
    this.bar = h("progress", { class: "stg-progress", max: 1, "aria-label": "Progress" });
    this.status = h("span", { class: "stg-status", role: "status" });
    return h("div", { class: "stg-work" }, this.starter, this.stopper, this.bar, this.status);
  }

  showWork() {
    const [running, progress] = [Boolean(this.get("running")), this.get("progress") ?? -1];
    if (this.starter) this.starter.disabled = running || !this.live;
    this.stopper.hidden = !running;
    this.stopper.disabled = Boolean(this.get("stop"));
    this.bar.hidden = !running;
    if (progress < 0) this.bar.removeAttribute("value"); // it moves to and fro
    else this.bar.value = progress;
    this.status.textContent = this.live ? (this.get("status") ?? "") : "needs a running notebook";
    this.root.dataset.running = String(running);
  }
}

/** A strip of pictures, a canvas for each frame: `paint(context, size)` shows a sheet of one row. */
class Strip {
  constructor(row) {
    this.tiles = h("div", { class: "stg-tiles" });
    this.note = h("span", { class: "stg-note" });
    this.name = h("span", { class: "stg-name" });
    this.node = h("section", { class: "stg-live-row", "data-branch": row.name }, h("div", { class: "stg-label" }, this.name, this.note), this.tiles);
    this.tell(row);
  }

  tell(row) {
    this.name.textContent = row.label;
    this.note.textContent = row.note;
    this.node.setAttribute("aria-label", `${row.label}: ${row.note}`);
    this.node.style.setProperty("--stg-accent", ink(row.colour));
  }

  paint(context, { frames, width, height }, room) {
    const tile = fitted(Math.min((room + 3) / frames - 3, 128), width);
    this.tiles.style.setProperty("--stg-tile", `${tile}px`);
    this.tiles.style.setProperty("--stg-tile-high", `${(tile * height) / width}px`);
    while (this.tiles.children.length > frames) this.tiles.lastChild.remove();
    while (this.tiles.children.length < frames) this.tiles.append(h("canvas", { class: "stg-tile", role: "img" }));
    [...this.tiles.children].forEach((canvas, frame) => {
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      canvas.setAttribute("aria-label", `${this.name.textContent}, frame ${frame}`);
      canvas.getContext("2d", { willReadFrequently: true }).putImageData(context.getImageData(frame * width, 0, width, height), 0, 0);
    });
  }
}

/** Small pictures are enlarged by halves of a device pixel, so that all their pixels look about equally large. */
function fitted(room, width) {
  const unit = width / (window.devicePixelRatio || 1);
  return room >= unit ? Math.floor((room / unit) * 2) * (unit / 2) : Math.max(room, 8);
}
