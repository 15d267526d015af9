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

/** The state that the page's address asks for of an explorer, `#id?state`: plain values, of traits that it has. */
function linked(id, values) {
  try {
    const [whose, state] = location.hash.slice(1).split("?");
    if (whose !== id || !state) return {};
    return Object.fromEntries(Object.entries(JSON.parse(decodeURIComponent(state))).filter(([name, value]) => name in values && typeof value === typeof values[name]));
  } catch {
    return {}; // an address of something else
  }
}

/** Show an explorer whose traits stand on the page, in the element of that id. */
function mount(id) {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const unpacked = (all) => Object.fromEntries(Object.entries(all).map(([name, text]) => [name, bytes(text)]));
  const { values, ...packed } = JSON.parse(document.getElementById(`${id}-data`).textContent);
  for (const [name, texts] of Object.entries(packed)) values[name] = unpacked(texts);
  Object.assign(values, linked(id, values));
  render({ model: new PageModel(values), el: document.getElementById(id) });
}
