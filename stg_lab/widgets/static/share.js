// What is shown, as a file, as code or as a link; and steps that move together.

const MOVING = 8; // frames a second where the view says none

/** The button behind which an explorer saves itself: PNG, PDF, GIF, film, code, and on a page without a kernel a link. */
class Share {
  constructor(explorer) {
    Object.assign(this, { explorer, root: explorer.root });
    const item = (name, words, act) => explorer.button(`stg-save-${name.toLowerCase()}`, name, () => this.done(act), { title: words });
    const items = [item("PNG", "What is shown, as a picture of twice the size", () => this.png()), item("PDF", "The same as a page", () => this.pdf())];
    this.moving = [item("GIF", "One round of the videos, as an animated picture", () => this.gif()), item("Film", "Two rounds of the videos, as mp4, or webm where the browser writes none", () => this.film())];
    items.push(...this.moving, item("Code", "Copies the Python that comes back to this state", () => copied(this.code)));
    if (location.protocol !== "about:" && !explorer.model.widget_manager) items.push(item("Link", "Copies a link to this page in this state", () => copied(this.link)));
    this.told = h("span", { class: "stg-say", role: "status" });
    this.panel = h("div", { class: "stg-save", role: "group", "aria-label": "Save what is shown", hidden: "" }, h("b", {}, "Save what is shown"), h("div", { class: "stg-save-items" }, ...items), this.told);
    this.key = h("button", { type: "button", class: "stg-save-key", "aria-expanded": "false", "aria-label": "Save", title: "Save what is shown: picture, film, code",
      click: () => this.show(this.panel.hidden) }, "↓");
    this.root.querySelector(".stg-head").append(this.key, this.panel);
    for (const kind of ["pointerdown", "focusin"]) this.root.addEventListener(kind, ({ target }) => {
      if (!this.panel.contains(target) && target !== this.key) this.show(false);
    });
  }

  show(open) {
    this.panel.hidden = !open;
    this.told.textContent = "";
    this.moving.forEach((button) => { button.disabled = !this.explorer.reel; });
    this.key.setAttribute("aria-expanded", String(open));
  }

  async done(act) {
    this.told.textContent = "…";
    this.told.textContent = (await act()) || "done";
  }

  get name() {
    return this.explorer.constructor.name.replace(/(?<=.)([A-Z])/g, "_$1").toLowerCase();
  }

  get state() {
    return Object.fromEntries(this.explorer.constructor.STATE.map((name) => [name, this.explorer.get(name)]));
  }

  /** Python that sets the state, of an explorer of the same source. */
  get code() {
    const python = (value) => JSON.stringify(value).replace(/\btrue\b/g, "True").replace(/\bfalse\b/g, "False").replace(/\bnull\b/g, "None");
    return [`explorer = lab.widgets.${this.name}(...)  # of the same source`, ...Object.entries(this.state).map(([name, value]) => `explorer.${name} = ${python(value)}`), "explorer"].join("\n");
  }

  get link() {
    return `${location.href.split("#")[0]}#${this.root.parentElement.id}?${encodeURIComponent(JSON.stringify(this.state))}`;
  }

  async png() {
    const canvas = await pictureOf(this.root);
    saved(await new Promise((done) => canvas.toBlob(done, "image/png")), `${this.name}.png`);
  }

  async pdf() {
    saved(await pdfOf(await pictureOf(this.root)), `${this.name}.pdf`);
  }

  /** Every frame in turn, as it is shown. */
  async frames(scale) {
    const { frames, paint } = this.explorer.reel;
    cancelAnimationFrame(this.explorer.animation);
    const found = [];
    for (let frame = 0; frame < frames; frame++) {
      paint(frame);
      found.push(await pictureOf(this.root, scale));
    }
    this.explorer.changed();
    return found;
  }

  async gif() {
    saved(new Blob([gifOf(await this.frames(1), this.explorer.view.fps ?? MOVING)], { type: "image/gif" }), `${this.name}.gif`);
  }

  async film() {
    const frames = await this.frames(1);
    const [type, end] = MediaRecorder.isTypeSupported("video/mp4") ? ["video/mp4", "mp4"] : ["video/webm", "webm"];
    const canvas = h("canvas", { width: frames[0].width - (frames[0].width % 2), height: frames[0].height - (frames[0].height % 2) });
    const context = canvas.getContext("2d");
    context.drawImage(frames[0], 0, 0);
    const recorder = new MediaRecorder(canvas.captureStream(30), { mimeType: type, videoBitsPerSecond: 8e6 });
    const parts = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    const ended = new Promise((done) => { recorder.onstop = done; });
    recorder.start();
    for (const frame of [...frames, ...frames]) {
      context.drawImage(frame, 0, 0);
      await new Promise((next) => setTimeout(next, 1000 / (this.explorer.view.fps ?? MOVING)));
    }
    recorder.stop();
    await ended;
    saved(new Blob(parts, { type }), `${this.name}.${end}`);
    return `written as ${end}`;
  }
}

async function copied(text) {
  await navigator.clipboard.writeText(text);
  return "copied";
}

function saved(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** An element as a canvas, whole, with what its canvases and fields hold; menus are left out. */
async function pictureOf(root, scale = 2) {
  root.classList.add("stg-whole");
  const [width, height] = [Math.ceil(root.getBoundingClientRect().width), Math.ceil(root.scrollHeight) + 2];
  const clone = root.cloneNode(true);
  const pairs = (selector) => [...root.querySelectorAll(selector)].map((one, i) => [one, clone.querySelectorAll(selector)[i]]);
  for (const [own, other] of pairs("input")) other.setAttribute("value", own.value);
  for (const [own, other] of pairs("select")) other.options[own.selectedIndex]?.setAttribute("selected", "");
  const canvases = pairs("canvas").map(([own, other]) => [other, own.width && own.height ? own.toDataURL() : "data:,"]);
  for (const [other, src] of canvases) other.replaceWith(h("img", { class: other.className, style: other.getAttribute("style") ?? "", src, alt: "" }));
  clone.querySelectorAll(".stg-save, .stg-save-key, .stg-help, .stg-help-key, .stg-keys").forEach((node) => node.remove());
  const look = getComputedStyle(root);
  for (const name of ["--jp-layout-color1", "--jp-layout-color2", "--jp-ui-font-family", "--jp-code-font-family"]) {
    if (look.getPropertyValue(name)) clone.style.setProperty(name, look.getPropertyValue(name));
  }
  const [red] = look.backgroundColor.match(/[\d.]+/g).map(Number);
  Object.assign(clone.style, { colorScheme: red < 128 ? "dark" : "light", width: `${width}px` });
  root.classList.remove("stg-whole");
  const sheets = [...(root.getRootNode().styleSheets ?? []), ...document.styleSheets].flatMap(rulesOf);
  const style = document.createElement("style");
  style.textContent = [...new Set(sheets)].filter((rule) => rule.includes(".stg-")).join("\n");
  clone.prepend(style);
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width * scale}" height="${height * scale}" viewBox="0 0 ${width} ${height}"><foreignObject width="${width}" height="${height}">${new XMLSerializer().serializeToString(clone)}</foreignObject></svg>`;
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
  await image.decode();
  const canvas = h("canvas", { width: width * scale, height: height * scale });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = look.backgroundColor; // behind the round corners
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0);
  return canvas;
}

/** The rules of a style sheet; none of one that another site serves. */
function rulesOf(sheet) {
  try {
    return [...sheet.cssRules].map((rule) => rule.cssText);
  } catch {
    return [];
  }
}

/** A page of one picture, without loss. */
async function pdfOf(canvas) {
  const { width, height } = canvas;
  const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0, j = 0; i < pixels.length; i += 4) for (let c = 0; c < 3; c++) rgb[j++] = pixels[i + c];
  const packed = new Uint8Array(await new Response(new Blob([rgb]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer());
  const [wide, high] = [width * 0.375, height * 0.375]; // pictures are of twice the size: 96 points of the screen to the inch
  const draw = `q ${wide} 0 0 ${high} 0 0 cm /I Do Q`;
  const objects = ["<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[3 0 R]/Count 1>>",
    `<</Type/Page/Parent 2 0 R/MediaBox[0 0 ${wide} ${high}]/Contents 4 0 R/Resources<</XObject<</I 5 0 R>>>>>>`, `<</Length ${draw.length}>>stream\n${draw}\nendstream`,
    [`<</Type/XObject/Subtype/Image/Width ${width}/Height ${height}/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/FlateDecode/Length ${packed.length}>>stream\n`, packed, "\nendstream"]];
  const [parts, places] = [["%PDF-1.5\n"], []];
  let length = 9;
  objects.forEach((body, i) => {
    places.push(length);
    const lines = [`${i + 1} 0 obj\n`, ...[body].flat(), "\nendobj\n"];
    lines.forEach((line) => { length += line.length; });
    parts.push(...lines);
  });
  const table = places.map((place) => `${String(place).padStart(10, "0")} 00000 n \n`).join("");
  return new Blob([...parts, `xref\n0 6\n0000000000 65535 f \n${table}trailer<</Size 6/Root 1 0 R>>\nstartxref\n${length}\n%%EOF`], { type: "application/pdf" });
}

/** Canvases of one size as an animated GIF that repeats; the 256 commonest of 32,768 colours. */
function gifOf(canvases, fps) {
  const { width, height } = canvases[0];
  const frames = canvases.map((canvas) => canvas.getContext("2d").getImageData(0, 0, width, height).data);
  const bin = (data, i) => ((data[i] >> 3) << 10) | ((data[i + 1] >> 3) << 5) | (data[i + 2] >> 3);
  const [count, sums] = [new Uint32Array(32768), new Float64Array(32768 * 3)];
  for (const data of frames) for (let i = 0; i < data.length; i += 4) {
    const b = bin(data, i);
    count[b]++;
    for (let c = 0; c < 3; c++) sums[3 * b + c] += data[i + c];
  }
  const used = [...count.keys()].filter((b) => count[b]).sort((a, b) => count[b] - count[a]);
  const palette = used.slice(0, 256).map((b) => [0, 1, 2].map((c) => Math.round(sums[3 * b + c] / count[b])));
  const nearest = new Uint8Array(32768);
  used.forEach((b) => {
    const own = [0, 1, 2].map((c) => sums[3 * b + c] / count[b]);
    const far = palette.map((one) => one.reduce((sum, value, c) => sum + (value - own[c]) ** 2, 0));
    nearest[b] = far.indexOf(Math.min(...far));
  });
  const word = (value) => [value & 255, value >> 8];
  const text = (letters) => [...letters].map((letter) => letter.charCodeAt(0));
  const table = Array.from({ length: 256 }, (_, i) => palette[i] ?? [0, 0, 0]).flat();
  const parts = [Uint8Array.from([...text("GIF89a"), ...word(width), ...word(height), 0xf7, 0, 0, ...table, 0x21, 0xff, 11, ...text("NETSCAPE2.0"), 3, 1, 0, 0, 0])];
  for (const data of frames) {
    const pixels = new Uint8Array(width * height);
    for (let i = 0; i < pixels.length; i++) pixels[i] = nearest[bin(data, 4 * i)];
    parts.push(Uint8Array.from([0x21, 0xf9, 4, 4, ...word(Math.round(100 / fps)), 0, 0, 0x2c, 0, 0, 0, 0, ...word(width), ...word(height), 0, 8]), lzw(pixels));
  }
  parts.push(Uint8Array.of(0x3b));
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}

/** The pixels of one frame, packed as GIF has it, in blocks of at most 255 bytes. */
function lzw(pixels) {
  const bytes = [];
  let [bits, filled, size, next] = [0, 0, 9, 258];
  const put = (code) => {
    bits |= code << filled;
    for (filled += size; filled >= 8; filled -= 8, bits >>>= 8) bytes.push(bits & 255);
  };
  let known = new Map();
  put(256);
  let before = pixels[0];
  for (let i = 1; i < pixels.length; i++) {
    const key = (before << 8) | pixels[i];
    if (known.has(key)) { before = known.get(key); continue; }
    put(before);
    if (next === 4096) {
      put(256);
      [known, size, next] = [new Map(), 9, 258];
    } else {
      if (next === 1 << size) size++;
      known.set(key, next++);
    }
    before = pixels[i];
  }
  put(before);
  put(257);
  if (filled) bytes.push(bits & 255);
  const blocks = [];
  for (let i = 0; i < bytes.length; i += 255) blocks.push(Math.min(255, bytes.length - i), ...bytes.slice(i, i + 255));
  return Uint8Array.from([...blocks, 0]);
}

/** Steps that move together: what one explorer shows, all others on the page show that are linked. */
class Links {
  constructor(explorer) {
    this.explorer = explorer;
    this.key = explorer.button("stg-link", "Link", () => document.dispatchEvent(new CustomEvent("stg-link", { detail: !this.on })),
      { title: "Moves the steps of all explorers on this page together", "aria-pressed": "false" });
    this.heard = ({ type, detail }) => (type === "stg-link" ? this.turn(detail) : this.follow(detail));
    for (const kind of ["stg-link", "stg-step"]) document.addEventListener(kind, this.heard);
    this.turn(Boolean(document.documentElement.dataset.stgLinked));
  }

  turn(on) {
    this.on = on;
    if (on) document.documentElement.dataset.stgLinked = "true";
    else delete document.documentElement.dataset.stgLinked;
    this.key.setAttribute("aria-pressed", String(on));
  }

  tell(step) {
    if (this.on && step !== this.told) document.dispatchEvent(new CustomEvent("stg-step", { detail: { from: this, share: step / Math.max(this.explorer.last, 1) } }));
    this.told = step;
  }

  follow({ from, share }) {
    const step = Math.round(share * this.explorer.last);
    if (!this.on || from === this || step === this.explorer.get("step")) return;
    this.told = step; // what was heard is not told again
    this.explorer.set({ step });
  }

  dispose() {
    for (const kind of ["stg-link", "stg-step"]) document.removeEventListener(kind, this.heard);
  }
}
