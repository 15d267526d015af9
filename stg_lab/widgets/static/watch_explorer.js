// What a run looked at: words in places, frames in frames. All maps are on board: nothing here asks a kernel.

class WatchExplorer extends Explorer {
  static CLASS = "stg-watch";
  static LABEL = "Attention inside the model";
  static STATE = ["step", "sample", "layer", "word"];
  static HELP = [
    [".stg-layers", "Layer", "Which of the watched layers is shown."],
    [".stg-words", "Words", "The caption as the model reads it; choose a word to see where it goes. The last one stands for all tokens beside the caption."],
    [".stg-maps", "Where the word goes", "For each frame, how much every place looks at the word: a share of its attention, a mean over heads. Colours fit the strongest place of all frames at this step."],
    [".stg-frames-map", "Frames look at frames", "A row for each frame: how much of its attention goes to each of them. Rows add up to one, where no text is in the same attention."],
    [".stg-plot", "Over the steps", "The word's mean share over the whole video, and the entropy of self-attention: high is spread out. Click to choose a step."],
  ];

  build() {
    const { layers, frames } = this.view;
    this.layers = h("select", { class: "stg-layers", "aria-label": "Layer", change: () => this.set({ layer: +this.layers.value }) },
      ...layers.map((layer, i) => h("option", { value: i }, `layer ${layer}`)));
    this.words = h("div", { class: "stg-group stg-words", role: "group", "aria-label": "Word" });
    const [count] = this.view.map;
    this.pictures = Array.from({ length: this.hasSheets ? frames : 0 }, (_, i) => h("canvas", { class: "stg-tile", role: "img", "aria-label": `frame ${i}` }));
    this.maps = Array.from({ length: count }, (_, i) => h("canvas", { class: "stg-tile stg-map", role: "img", "aria-label": `latent frame ${i}` }));
    this.scale = h("span", {});
    this.square = h("canvas", { class: "stg-frames-map", role: "img", "aria-label": "Which frames look at which" });
    this.squareScale = h("span", {});
    const pick = (step) => this.set({ step });
    this.mean = new LinePlot({ title: "Mean share of attention to the word", xlabel: "step", height: 150, pick });
    this.entropy = new LinePlot({ title: "Entropy of self-attention, in nats", xlabel: "step", height: 150, pick });
    return [this.buildHead("Attention inside the model"), this.buildSteps(),
      h("div", { class: "stg-tools" }, this.layers, this.words, h("span", { class: "stg-keys" }, h("kbd", {}, "←"), " ", h("kbd", {}, "→"), " step")),
      this.hasSheets ? h("div", { class: "stg-say" }, "what the sampler went on with") : null,
      this.hasSheets ? h("div", { class: "stg-strip" }, ...this.pictures) : null,
      this.said = h("div", { class: "stg-say" }), h("div", { class: "stg-strip stg-maps" }, ...this.maps), this.scale,
      h("div", { class: "stg-two" },
        h("figure", { class: "stg-square" }, h("div", { class: "stg-plot-title" }, "Row: a frame. Column: the frame that it looks at"), this.square, this.squareScale),
        h("div", { class: "stg-column" }, this.mean.node, this.entropy.node))];
  }

  get hasSheets() {
    return Boolean(this.view.height);
  }

  async refresh() {
    const sample = this.get("sample");
    if (this.hasSheets) await this.sheets.load("guided", sample);
    this.showSteps();
    this.layers.value = this.get("layer");
    this.showWords(sample);
    this.paint();
  }

  showWords(sample) {
    const words = this.view.words[sample];
    if (this.worded !== sample) {
      this.worded = sample;
      this.words.replaceChildren(...words.map((word, i) => this.button("stg-word", word, () => this.set({ word: i }))));
      this.suppress();
    }
    [...this.words.children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === this.get("word"))));
  }

  layout() {
    if (this.worded === undefined) return;
    this.root.classList.toggle("stg-narrow", this.root.clientWidth < 640);
    this.paint();
  }

  paint() {
    const [step, sample, layer, word] = ["step", "sample", "layer", "word"].map((name) => this.get(name));
    const [count, high, wide] = this.view.map;
    const there = this.arrays.at("looked")[step];
    const maps = this.arrays.at("words", step, layer, sample, word);
    const most = Math.max(...maps, 1e-9);
    this.maps.forEach((canvas, i) => paintHeat(canvas, maps.slice(i * high * wide, (i + 1) * high * wide), wide, 0, most));
    const name = this.view.words[sample][word];
    this.said.textContent = there ? `where "${name}" goes, in each latent frame` : "this step was not looked at";
    this.scale.replaceChildren(colourBar(0, most));
    const square = this.arrays.at("frames", step, layer, sample);
    const top = Math.max(...square, 1e-9);
    paintHeat(this.square, square, count, 0, top);
    this.squareScale.replaceChildren(colourBar(0, top));
    const x = this.view.steps.map((_, i) => i);
    this.mean.draw({ x, cursor: step, low: 0, series: [{ label: name, colour: this.view.colour, y: [...this.arrays.at("shares", layer, sample, word)] }] });
    this.entropy.draw({ x, cursor: step, series: [{ label: `layer ${this.view.layers[layer]}`, colour: this.view.colour, y: [...this.arrays.at("entropy", layer, sample)] }] });
    if (this.hasSheets) this.paintPictures(step, sample);
  }

  paintPictures(step, sample) {
    const { width, height } = this.view;
    this.paintRibbon("guided", sample);
    const sheet = this.sheets.get("guided", sample).canvas;
    this.pictures.forEach((canvas, i) => {
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      canvas.getContext("2d").drawImage(sheet, i * width, step * height, width, height, 0, 0, width, height);
    });
  }
}

const render = renderer(WatchExplorer);
export default { render };
