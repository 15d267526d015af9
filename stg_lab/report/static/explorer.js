// Behind the explorer's module, in the same script: a model without a kernel, which only remembers and tells.
class PageModel {
  constructor(values) {
    this.values = values;
    this.listeners = {};
  }
  get(name) {
    return this.values[name];
  }
  set(name, value) {
    if (this.values[name] === value) return;
    this.values[name] = value;
    for (const listener of this.listeners[`change:${name}`] ?? []) listener();
  }
  on(event, listener) {
    (this.listeners[event] ??= []).push(listener);
  }
  off(event, listener) {
    this.listeners[event] = (this.listeners[event] ?? []).filter((other) => other !== listener);
  }
  save_changes() {}
}

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const sheets = Object.fromEntries(Object.entries(read("explorer-sheets")).map(([name, text]) => [name, bytes(text)]));
render({ model: new PageModel({ ...read("explorer-state"), sheets }), el: document.getElementById("x0-explorer") });
