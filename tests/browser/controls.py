"""Moving every control of an explorer, and seeing that something answers."""

from __future__ import annotations

#: What an explorer shows, as one text: its words, its pixels, its drawings. Whether a button is pressed is no answer by itself.
SHOWN = """(root) => {
  const texts = [root.innerText];
  for (const canvas of root.querySelectorAll("canvas")) {
    if (!canvas.width || !canvas.height || !canvas.offsetParent) continue; // what is hidden may be of earlier
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let hash = 2166136261;
    for (let i = 0; i < data.length; i++) hash = Math.imul(hash ^ data[i], 16777619);
    texts.push(`${canvas.width}x${canvas.height}:${hash}:${canvas.dataset.frame ?? ""}:${canvas.clientWidth}`);
  }
  for (const svg of root.querySelectorAll("svg")) if (svg.checkVisibility()) texts.push(svg.outerHTML);
  texts.push([...root.querySelectorAll("output, [data-value]")].map((node) => node.dataset.value ?? "").join());
  texts.push(root.dataset.mode ?? "");
  return texts.join("\\n");
}"""

#: Names of the controls that can be moved, by how each is found again. What needs a model says so by class or is disabled;
#: help, saving and links have tests of their own.
CONTROLS = """(root) => {
  const found = [];
  const all = [...root.querySelectorAll("button, select, input")];
  all.forEach((node, index) => {
    if (node.disabled || node.closest(".stg-run, .stg-help-key, .stg-save-key, .stg-link") || node.offsetParent === null) return;
    if (node.type === "text") return; // what it says is used by the next press of a button
    const pressed = node.getAttribute("aria-pressed");
    const kind = node.tagName === "SELECT" ? "select" : node.tagName === "BUTTON" ? "button" : node.type;
    if (kind === "select" && node.options.length < 2) return;
    if (kind === "range" && +node.min === +node.max) return;
    const choice = kind === "button" && pressed === "true" && node.closest(".stg-group");
    if (!choice) found.push({ index, kind, name: node.getAttribute("aria-label") || node.className || node.textContent });
  });
  return found;
}"""


def shown(root) -> str:
    """What an explorer shows now."""
    return root.evaluate(SHOWN)


def settled(page, root) -> str:
    """What an explorer shows once it shows the same for a while: pictures are decoded and painted a moment after a move."""
    before = shown(root)
    for _ in range(40):
        page.wait_for_timeout(250)
        if (now := shown(root)) == before:
            return now
        before = now
    raise AssertionError("an explorer that never comes to rest")


def move_all(page, root, *, most: int = 60) -> list[str]:
    """Move every control of the explorer at a locator, one after the other; returns the names of those that nothing answered.

    Args:
        most: of very many buttons (the cells of a grid), only as many are pressed, evenly spread.
    """
    controls = root.evaluate(CONTROLS)
    assert controls, "an explorer without controls"
    step = max(1, -(-len(controls) // most))
    silent = []
    for control in controls[::step]:
        node = root.locator("button, select, input").nth(control["index"])
        if not node.is_visible() or node.is_disabled():
            continue  # another control took it away
        before = shown(root)
        _move(page, node, control["kind"])
        try:
            page.wait_for_function(
                f"([root, before]) => ({SHOWN})(root) !== before", arg=[root.element_handle(), before], timeout=20_000
            )
        except Exception:
            silent.append(control["name"])
        _pause(root)  # what moves by itself would hide whether the next control does anything
    return silent


def _pause(root) -> None:
    for play in root.locator(".stg-play").all():
        if "Pause" in play.inner_text():
            play.click()


def _move(page, node, kind: str) -> None:
    if kind == "select":
        chosen = node.evaluate("(n) => n.selectedIndex")
        node.select_option(index=(chosen + 1) % node.evaluate("(n) => n.options.length"))
    elif kind == "range":
        node.focus()
        at_end = node.evaluate("(n) => +n.value >= +n.max")
        page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
    elif kind == "number":
        node.focus()
        page.keyboard.press("ArrowUp")
    else:
        node.click()
