"use strict";
// Each frame is a drawing; zooming changes the part of it that is shown.
for (const panel of document.querySelectorAll(".panel")) {
  const svg = panel.querySelector("svg"), marks = svg.querySelector(".marks");
  const layers = [...svg.querySelectorAll(".layer")], choices = [...panel.querySelectorAll("[data-layer]")];
  const whole = svg.dataset.box.split(" ").map(Number);
  let box = whole.slice(), timer = 0, held = null, seen = 0;
  const show = () => svg.setAttribute("viewBox", box.join(" "));
  const pixel = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [point.x, point.y];
  };
  const zoom = (factor, [x, y]) => {
    const width = Math.min(whole[2], Math.max(whole[2] / 40, box[2] * factor)), by = width / box[2];
    box = [x - (x - box[0]) * by, y - (y - box[1]) * by, width, box[3] * by];
    keep();
  };
  const keep = () => {
    for (const axis of [0, 1]) {
      const last = whole[axis] + whole[axis + 2] - box[axis + 2];
      box[axis] = Math.min(last, Math.max(whole[axis], box[axis]));
    }
    show();
  };
  const middle = () => [box[0] + box[2] / 2, box[1] + box[3] / 2];
  const press = (button, on) => button.setAttribute("aria-pressed", String(on));
  const choose = (number) => {
    seen = number;
    layers.forEach((layer, i) => layer.classList.toggle("hidden", i !== number));
    choices.forEach((choice, i) => press(choice, i === number));
  };
  const turn = () => {
    if (layers.length > 1) { choose((seen + 1) % layers.length); } else { marks.classList.toggle("hidden"); }
  };
  const actions = {
    in: () => zoom(0.6, middle()),
    out: () => zoom(1 / 0.6, middle()),
    all: () => { box = whole.slice(); show(); },
    marks: (button) => press(button, !marks.classList.toggle("hidden")),
    blink: (button) => {
      if (timer) { clearInterval(timer); timer = 0; if (layers.length < 2) { marks.classList.remove("hidden"); } }
      else { timer = setInterval(turn, 500); }
      press(button, timer !== 0);
    },
  };
  for (const button of panel.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => actions[button.dataset.do](button));
  }
  choices.forEach((button, number) => button.addEventListener("click", () => choose(number)));
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && box[2] === whole[2] && event.deltaY > 0) { return; }
    event.preventDefault();
    zoom(event.deltaY < 0 ? 0.85 : 1 / 0.85, pixel(event));
  }, { passive: false });
  svg.addEventListener("pointerdown", (event) => { held = pixel(event); svg.setPointerCapture(event.pointerId); });
  svg.addEventListener("pointermove", (event) => {
    if (held === null) { return; }
    const [x, y] = pixel(event);
    box[0] += held[0] - x;
    box[1] += held[1] - y;
    keep();
  });
  svg.addEventListener("pointerup", () => { held = null; });
  svg.addEventListener("pointercancel", () => { held = null; });
}
