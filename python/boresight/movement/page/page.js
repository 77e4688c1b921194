"use strict";
// Pairs are [x, y on the reference, x, y on the moved image] in array pixels: (0, 0) is the centre of the first pixel.
const token = document.body.dataset.token;
const by = (id) => document.getElementById(id);
const sides = ["ref", "moved"];
const pictures = {};
const state = { width: 1, height: 1, pairs: [], pending: null, chosen: -1, fit: null, blink: false, wait: 0,
  view: { x: 0, y: 0, zoom: 1 } };

async function ask(name, given = {}) {
  const answer = await fetch("/" + name, { method: "POST", body: JSON.stringify(given),
    headers: { "Content-Type": "application/json", "X-Token": token } });
  if (!answer.ok) throw new Error("the page's server does not answer; is it still running?");
  return answer.json();
}

function say(text, error = false) {
  by("hint").textContent = text;
  by("hint").classList.toggle("error", error);
}

async function asked(name, given) {
  try {
    const answer = await ask(name, given);
    if (answer.error) say(answer.error, true);
    return answer;
  } catch (error) {
    say(String(error.message || error), true);
    return { error: true };
  }
}

// ---------------------------------------------------------------- view
function toScreen(canvas, x, y) {
  const { view } = state;
  return [canvas.clientWidth / 2 + (x - view.x) * view.zoom, canvas.clientHeight / 2 + (y - view.y) * view.zoom];
}
function toImage(canvas, u, v) {
  const { view } = state;
  return [view.x + (u - canvas.clientWidth / 2) / view.zoom, view.y + (v - canvas.clientHeight / 2) / view.zoom];
}
function whole() {
  const canvas = by("ref");
  state.view = { x: (state.width - 1) / 2, y: (state.height - 1) / 2,
    zoom: Math.min(canvas.clientWidth / state.width, canvas.clientHeight / state.height) };
  draw();
}
function zoom(canvas, factor, u = canvas.clientWidth / 2, v = canvas.clientHeight / 2) {
  const [x, y] = toImage(canvas, u, v);
  state.view.zoom = Math.min(64, Math.max(0.02, state.view.zoom * factor));
  const [x2, y2] = toImage(canvas, u, v);
  state.view.x += x - x2;
  state.view.y += y - y2;
  draw();
}

function picture(side) {
  return pictures[side + (by("enhance").checked ? "-enhanced" : "")];
}

function draw() {
  for (const side of sides) drawSide(side);
}

function drawSide(side) {
  const canvas = by(side), ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  const ctx = canvas.getContext("2d"), { view } = state;
  const [left, top] = toScreen(canvas, 0, 0);
  ctx.setTransform(ratio * view.zoom, 0, 0, ratio * view.zoom, ratio * left, ratio * top);
  ctx.imageSmoothingEnabled = view.zoom < 3;
  let shown = side;
  if (state.blink && side === "ref") {
    shown = "moved";
    // Projective terms are ignored here: a canvas cannot draw them, and their effect is hardly visible.
    if (state.fit) {
      const m = state.fit.matrix;
      ctx.transform(m[0][0], m[1][0], m[0][1], m[1][1], m[0][2], m[1][2]);
    }
  }
  if (picture(shown)) ctx.drawImage(picture(shown), -0.5, -0.5);
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (!state.blink) drawPoints(ctx, canvas, side);
}

function drawPoints(ctx, canvas, side) {
  const at = side === "ref" ? 0 : 2;
  const cross = (x, y, colour, size) => {
    const [u, v] = toScreen(canvas, x, y);
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1.6;
    ctx.beginPath();
    ctx.moveTo(u - size, v); ctx.lineTo(u + size, v); ctx.moveTo(u, v - size); ctx.lineTo(u, v + size);
    ctx.stroke();
    return [u, v];
  };
  ctx.font = "12px system-ui, sans-serif";
  state.pairs.forEach((pair, i) => {
    const colour = i === state.chosen ? "#ffffff" : "#ffb454";
    const [u, v] = cross(pair[at], pair[at + 1], colour, i === state.chosen ? 10 : 7);
    ctx.fillStyle = colour;
    ctx.fillText(String(i + 1), u + 8, v - 6);
    if (side === "ref" && state.fit && state.fit.predicted[i]) {
      const [p, q] = toScreen(canvas, ...state.fit.predicted[i]);
      ctx.strokeStyle = "#5cb8ff";
      ctx.beginPath(); ctx.arc(p, q, 6, 0, 7); ctx.stroke();
    }
  });
  if (state.pending && state.pending.side === side) cross(state.pending.x, state.pending.y, "#57d98a", 10);
}

// ---------------------------------------------------------------- pairs
function inside(x, y) {
  return x >= -0.5 && y >= -0.5 && x < state.width - 0.5 && y < state.height - 0.5;
}
function add(side, x, y) {
  if (!inside(x, y)) return;
  if (!state.pending || state.pending.side === side) {
    state.pending = { side, x, y };
    say("Now the same point on the " + (side === "ref" ? "moved image." : "reference."));
    draw();
    return;
  }
  const other = state.pending;
  state.pairs.push(side === "ref" ? [x, y, other.x, other.y] : [other.x, other.y, x, y]);
  state.pending = null;
  state.chosen = state.pairs.length - 1;
  changed();
}
function remove() {
  if (state.pending) state.pending = null;
  else if (state.chosen >= 0) {
    state.pairs.splice(state.chosen, 1);
    state.chosen = Math.min(state.chosen, state.pairs.length - 1);
  }
  changed();
}
function put(pairs) {
  Object.assign(state, { pairs: pairs.map((p) => [...p]), pending: null, chosen: pairs.length ? 0 : -1 });
  changed();
}
function near(canvas, side, u, v, reach) {
  const at = side === "ref" ? 0 : 2;
  let found = -1, least = reach;
  state.pairs.forEach((pair, i) => {
    const [p, q] = toScreen(canvas, pair[at], pair[at + 1]);
    const distance = Math.hypot(p - u, q - v);
    if (distance < least) [found, least] = [i, distance];
  });
  return found;
}

function changed() {
  if (!state.pending) say(state.pairs.length < 3 ? `${state.pairs.length} of at least 3 pairs.` : `${state.pairs.length} pairs.`);
  draw();
  list();
  clearTimeout(state.wait);
  state.wait = setTimeout(refit, 60);
}
let asking = 0;
async function refit() {
  const mine = ++asking;
  const answer = state.pairs.length < 3 ? { fit: null }
    : await asked("fit", { pairs: state.pairs, transform: by("transform").value });
  if (mine !== asking) return;
  state.fit = answer.fit || null;
  show();
  draw();
  list();
}
function show() {
  const { fit } = state, set = (id, text) => { by(id).textContent = fit ? text() : "–"; };
  set("shift", () => fit.shift.map((v) => v.toFixed(2)).join(", ") + " px");
  set("rotation", () => fit.rotation.toFixed(3) + "°");
  set("scale", () => fit.scale.toFixed(5));
  set("rms", () => fit.rms.toFixed(2) + " px");
  set("ddscore", () => (fit.ddscore > 0 ? "+" : "") + fit.ddscore.toFixed(2));
  by("ddscore").className = fit ? (fit.ddscore > 0 ? "good" : fit.ddscore < 0 ? "bad" : "") : "";
  by("accept").disabled = by("save").disabled = !fit;
}
function list() {
  const items = state.pairs.map((_, i) => {
    const item = document.createElement("li"), button = document.createElement("button");
    const name = document.createElement("span"), residual = document.createElement("span");
    name.textContent = "Pair " + (i + 1);
    residual.textContent = state.fit && state.fit.residuals[i] !== undefined ? state.fit.residuals[i].toFixed(2) + " px" : "";
    button.append(name, residual);
    button.setAttribute("aria-pressed", String(i === state.chosen));
    button.onclick = () => { state.chosen = i; list(); draw(); };
    item.append(button);
    return item;
  });
  by("pairs").replaceChildren(...items);
  by("delete").disabled = by("clear").disabled = !state.pairs.length && !state.pending;
}

// ---------------------------------------------------------------- pointer and keys
const fingers = new Map();
function pointers(side) {
  const canvas = by(side);
  let press = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    canvas.focus();
    fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    const grabbed = near(canvas, side, event.offsetX, event.offsetY, event.pointerType === "touch" ? 22 : 11);
    press = { u: event.offsetX, v: event.offsetY, moved: false, grabbed };
    if (grabbed >= 0) { state.chosen = grabbed; list(); draw(); }
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!press || !before) return;
    const here = [event.offsetX, event.offsetY];
    if (fingers.size === 2) {
      const other = [...fingers.entries()].find(([id]) => id !== event.pointerId)[1];
      const factor = Math.hypot(here[0] - other[0], here[1] - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1]));
      zoom(canvas, factor, ...other);
      press.moved = true;
    } else if (press.moved || Math.hypot(here[0] - press.u, here[1] - press.v) > 4) {
      press.moved = true;
      if (press.grabbed >= 0) {
        const [x, y] = toImage(canvas, ...here);
        if (inside(x, y)) state.pairs[press.grabbed].splice(side === "ref" ? 0 : 2, 2, x, y);
        changed();
      } else {
        state.view.x -= (here[0] - before[0]) / state.view.zoom;
        state.view.y -= (here[1] - before[1]) / state.view.zoom;
        draw();
      }
    }
    fingers.set(event.pointerId, here);
  });
  const end = (event) => {
    fingers.delete(event.pointerId);
    if (press && !press.moved && press.grabbed < 0 && event.type === "pointerup") add(side, ...toImage(canvas, event.offsetX, event.offsetY));
    if (!fingers.size) press = null;
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(canvas, Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => keys(event, side, canvas));
}
function keys(event, side, canvas) {
  const step = event.shiftKey ? 10 : 1;
  const arrows = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (arrows[event.key]) {
    const [dx, dy] = arrows[event.key];
    if (event.altKey && state.chosen >= 0) {
      const at = side === "ref" ? 0 : 2, pair = state.pairs[state.chosen];
      pair[at] += dx * Math.min(1, 1 / state.view.zoom);
      pair[at + 1] += dy * Math.min(1, 1 / state.view.zoom);
      changed();
    } else {
      state.view.x += dx * 10 / state.view.zoom;
      state.view.y += dy * 10 / state.view.zoom;
      draw();
    }
  } else if (event.key === "+" || event.key === "=") zoom(canvas, 1.25);
  else if (event.key === "-") zoom(canvas, 0.8);
  else if (event.key === "0") whole();
  else if (event.key === "Enter") add(side, state.view.x, state.view.y);
  else if (event.key === "n" || event.key === "N") {
    state.chosen = state.pairs.length ? (state.chosen + 1) % state.pairs.length : -1;
    list(); draw();
  } else return;
  event.preventDefault();
}
function blink(on) {
  state.blink = on;
  document.body.dataset.blink = on ? "moved" : "";
  draw();
}

function over(text) {
  clearInterval(calling);
  document.body.innerHTML = "<p class='over'></p>";
  document.body.firstChild.textContent = text + " You can close this page.";
}

const calling = setInterval(() => ask("alive").catch(() => over("The program has ended.")), 2000);

async function begin() {
  const start = await asked("start");
  Object.assign(state, { width: start.width, height: start.height });
  await Promise.all(["ref", "moved", "ref-enhanced", "moved-enhanced"].map(async (name) => {
    pictures[name] = new Image();
    pictures[name].src = `/picture/${name}?token=${token}`;
    await pictures[name].decode();
  }));
  sides.forEach(pointers);
  whole();
  if (start.pairs.length) put(start.pairs);
  else { show(); list(); }
  document.body.dataset.ready = "yes";
}

by("detect").onclick = async () => {
  say("Detecting ...");
  const answer = await asked("detect");
  if (answer.pairs) put(answer.pairs);
};
by("delete").onclick = remove;
by("clear").onclick = () => put([]);
by("fitview").onclick = whole;
by("enhance").onchange = draw;
by("transform").onchange = refit;
by("save").onclick = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(state.fit.file, null, 4)], { type: "application/json" }));
  link.download = "movement.cmc";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};
by("load").onchange = async (event) => {
  try {
    const answer = await asked("load", JSON.parse(await event.target.files[0].text()));
    if (answer.pairs) put(answer.pairs);
  } catch { say("This is no .cmc file.", true); }
  event.target.value = "";
};
by("accept").onclick = async () => {
  const answer = await asked("accept", { pairs: state.pairs, transform: by("transform").value });
  if (answer.done) over("The correction was accepted.");
};
by("cancel").onclick = async () => { await asked("cancel"); over("Cancelled."); };
by("blink").addEventListener("pointerdown", () => blink(true));
for (const name of ["pointerup", "pointerleave", "pointercancel"]) by("blink").addEventListener(name, () => blink(false));
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.target.tagName === "SELECT") return;
  if (event.key === "b" || event.key === "B") { if (!event.repeat) blink(true); }
  else if (event.key === "Delete" || event.key === "Backspace") remove();
});
document.addEventListener("keyup", (event) => { if (event.key === "b" || event.key === "B") blink(false); });
window.addEventListener("blur", () => blink(false));
window.addEventListener("resize", draw);
begin();
