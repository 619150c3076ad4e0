// The page: takes strokes or a picture, asks the server about them, and draws what it answers.

const SIDE = 280; // of the paper, in units of the strokes
const PEN = 12;
const STEP = 8; // of the cursor; with Shift FAR
const FAR = 32;
const MOST_BARS = 10;
const PAUSE = 250; // milliseconds between two looks inside while the pen is down
const $ = (id) => document.getElementById(id);

// ---- What the user has brought ------------------------------------------------------------

let strokes = []; // of places [x, y]; the last one grows while the pen is down
let picture = null; // a Blob, instead of strokes
let pen = null; // id of the pointer that draws, or "keys"
let cursor = null; // place of the keyboard's pen, once it is used
let since = null; // when the first event came that no answer has shown yet
let changed = 0; // counts changes, so that late answers are known
let chosen = null; // name of the class to explain; null: the likeliest

const paper = $("paper");

function change(time) {
  since ??= time;
  changed += 1;
  requestAnimationFrame(drawPaper);
  ask();
}

function drawPaper() {
  const scale = devicePixelRatio || 1;
  const size = Math.round(paper.clientWidth * scale);
  if (paper.width !== size) paper.width = paper.height = size;
  const brush = paper.getContext("2d");
  brush.setTransform(size / SIDE, 0, 0, size / SIDE, 0, 0);
  brush.clearRect(0, 0, SIDE, SIDE);
  brush.lineWidth = PEN;
  brush.lineCap = brush.lineJoin = "round";
  brush.strokeStyle = "#1c2330";
  for (const stroke of strokes) {
    brush.beginPath();
    brush.moveTo(...stroke[0]);
    for (const place of stroke) brush.lineTo(...place);
    brush.stroke();
  }
  if (cursor && document.activeElement === paper) {
    brush.beginPath();
    brush.arc(...cursor, PEN / 2 + 2, 0, 2 * Math.PI);
    brush.lineWidth = 2;
    brush.strokeStyle = pen === "keys" ? "#d6402f" : "#2f6fd6";
    brush.stroke();
  }
}

function placeOf(event) {
  const box = paper.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top].map(
    (length) => Math.round((length / box.width) * SIDE * 10) / 10,
  );
}

function begin(who, place, time) {
  forgetPicture();
  chosen = null;
  pen = who;
  strokes.push([place]);
  change(time);
}

function end(time) {
  pen = null;
  change(time);
}

paper.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || (pen !== null && pen !== "keys")) return; // another finger draws
  event.preventDefault();
  cursor = null;
  paper.focus({ preventScroll: true, focusVisible: false });
  paper.setPointerCapture(event.pointerId);
  begin(event.pointerId, placeOf(event), event.timeStamp);
});
paper.addEventListener("pointermove", (event) => {
  if (pen !== event.pointerId) return;
  const events = event.getCoalescedEvents?.() ?? [];
  strokes.at(-1).push(...(events.length ? events : [event]).map(placeOf));
  change(event.timeStamp);
});
for (const name of ["pointerup", "pointercancel"]) {
  paper.addEventListener(name, (event) => {
    if (pen === event.pointerId) end(event.timeStamp);
  });
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

paper.addEventListener("keydown", (event) => {
  if (pen !== null && pen !== "keys") return;
  const arrow = ARROWS[event.key];
  if (arrow) {
    const far = event.shiftKey ? FAR : STEP;
    cursor = (cursor ?? [SIDE / 2, SIDE / 2]).map((at, i) =>
      Math.min(SIDE - PEN, Math.max(PEN, at + far * arrow[i])),
    );
    if (pen === "keys") {
      strokes.at(-1).push([...cursor]);
      change(event.timeStamp);
    }
  } else if (event.key === " " || event.key === "Enter") {
    if (event.repeat) return;
    cursor ??= [SIDE / 2, SIDE / 2];
    if (pen === "keys") end(event.timeStamp);
    else begin("keys", [...cursor], event.timeStamp);
  } else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) {
    undo(event.timeStamp);
  } else if (event.key === "Delete") {
    clear(event.timeStamp);
  } else {
    return;
  }
  event.preventDefault();
  requestAnimationFrame(drawPaper);
});
paper.addEventListener("focus", () => requestAnimationFrame(drawPaper));
paper.addEventListener("blur", (event) => {
  if (pen === "keys") end(event.timeStamp);
  requestAnimationFrame(drawPaper);
});

function undo(time) {
  pen = null;
  strokes.pop();
  forgetPicture();
  change(time);
}

function clear(time) {
  pen = null;
  strokes = [];
  chosen = null;
  forgetPicture();
  change(time);
}

$("undo").addEventListener("click", (event) => undo(event.timeStamp));
$("clear").addEventListener("click", (event) => clear(event.timeStamp));
new ResizeObserver(drawPaper).observe(paper);

// ---- Pictures -----------------------------------------------------------------------------

function bring(files, time) {
  const file = [...(files ?? [])].find((each) => each.type.startsWith("image/"));
  if (!file) {
    say("That is no picture.");
    return;
  }
  forgetPicture();
  strokes = [];
  chosen = null;
  picture = file;
  const preview = $("preview");
  preview.src = URL.createObjectURL(file);
  preview.hidden = false;
  change(time);
}

function forgetPicture() {
  if (!picture) return;
  picture = null;
  URL.revokeObjectURL($("preview").src);
  $("preview").hidden = true;
  $("preview").removeAttribute("src");
  $("file").value = "";
}

$("file").addEventListener("change", (event) => {
  if (event.target.files.length) bring(event.target.files, event.timeStamp);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) bring(event.clipboardData.files, event.timeStamp);
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  bring(event.dataTransfer.files, event.timeStamp);
});

// ---- Asking the server --------------------------------------------------------------------

let runs = [];
let asking = false;
let looking = false;
let asked = 0; // the change that was last asked about
let looked = 0;
let lookedAt = 0;
let timer = null;

function body() {
  if (picture) return { body: picture, headers: { "content-type": picture.type } };
  if (!strokes.length) return null;
  return { body: JSON.stringify({ strokes }), headers: { "content-type": "application/json" } };
}

async function fetched(path, options) {
  const answer = await fetch(path, options).catch(() => {
    throw new Error("The server does not answer: it may have ended.");
  });
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

async function ask() {
  if (asking || asked === changed || !runs.length) return;
  const [number, started, sent] = [changed, since, body()];
  since = null;
  asked = number;
  if (!sent) {
    showNothing();
    return;
  }
  asking = true;
  try {
    const answers = await Promise.all(
      runs.map((_, i) => fetched(`predict?run=${i + 1}`, { method: "POST", ...sent })),
    );
    if (strokes.length || picture) answers.forEach(showAnswer);
    say("");
    if (started !== null) {
      performance.measure("answer", { start: started, end: performance.now() });
      if (performance.getEntriesByName("answer").length > 1000) performance.clearMeasures("answer");
    }
    tell(answers);
  } catch (error) {
    say(error.message);
  } finally {
    asking = false;
  }
  ask();
  look();
}

function look() {
  clearTimeout(timer);
  if (looking || looked === changed) return;
  const wait = lookedAt + PAUSE - performance.now();
  if (pen !== null && wait > 0) timer = setTimeout(look, wait);
  else lookNow();
}

async function lookNow() {
  const [number, sent] = [changed, body()];
  looked = number;
  if (!sent) return;
  looking = true;
  lookedAt = performance.now();
  try {
    const found = await Promise.all(
      runs.map((run, i) => {
        const place = chosen === null ? -1 : run.classes.indexOf(chosen);
        return fetched(`inside?run=${i + 1}&class=${place}`, { method: "POST", ...sent });
      }),
    );
    if (strokes.length || picture) {
      for (const { inside } of cards) inside.hidden = false; // before their widths are measured
      found.forEach(showInside);
    }
  } catch (error) {
    say(error.message);
  } finally {
    looking = false;
  }
  look();
}

// ---- Showing ------------------------------------------------------------------------------

const cards = []; // of each run: the elements that change

function say(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

let telling = null;

function tell(answers) {
  // For a screen reader: once the answer rests.
  clearTimeout(telling);
  telling = setTimeout(() => {
    $("said").textContent = answers
      .map(({ run, predictions: [{ label, probabilities }] }) => {
        const text = `${label}, ${percent(probabilities[label])}`;
        return answers.length > 1 ? `${run}: ${text}` : text;
      })
      .join("; ");
  }, 400);
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function makeCards() {
  for (const run of runs) {
    const answer = $("answer-card").content.cloneNode(true).firstElementChild;
    answer.querySelector("h2").textContent = run.name;
    const parts = [run.model];
    if (run.members > 1) parts.push(`${run.members} networks`);
    if (run.views > 1) parts.push(`${run.views} views`);
    if (run.data) parts.push(`trained on ${run.data}`);
    answer.querySelector(".about").textContent = parts.join(", ");
    const bars = [];
    for (let i = 0; i < Math.min(MOST_BARS, run.classes.length); i++) {
      const bar = document.createElement("button");
      bar.type = "button";
      bar.className = "bar";
      bar.setAttribute("aria-pressed", "false");
      for (const name of ["name", "track", "share"]) {
        bar.append(Object.assign(document.createElement("span"), { className: name }));
      }
      bar.children[1].append(Object.assign(document.createElement("div"), { className: "fill" }));
      bar.addEventListener("click", () => {
        chosen = chosen === bar.dataset.name ? null : bar.dataset.name;
        looked = 0;
        markChosen();
        look();
      });
      bars.push(bar);
    }
    answer.querySelector(".bars").append(...bars);
    $("answers").append(answer);
    const inside = $("inside-card").content.cloneNode(true).firstElementChild;
    inside.querySelector("h2").textContent = runs.length > 1 ? `Inside ${run.name}` : "Inside";
    $("insides").append(inside);
    cards.push({ run, answer, bars, inside });
  }
}

function setBar(bar, name, share) {
  bar.dataset.name = name;
  bar.children[0].textContent = name;
  bar.children[0].title = name;
  bar.children[1].firstElementChild.style.transform = `scaleX(${share ?? 0})`;
  bar.children[2].textContent = share === null ? "" : percent(share);
}

function showAnswer({ predictions: [{ label, probabilities }] }, number) {
  const { run, answer, bars } = cards[number];
  let names = run.classes;
  if (names.length > bars.length) {
    names = [...names].sort((a, b) => probabilities[b] - probabilities[a]);
  }
  bars.forEach((bar, i) => setBar(bar, names[i], probabilities[names[i]]));
  answer.querySelector(".label").textContent = label;
  markChosen();
}

function markChosen() {
  for (const { bars } of cards) {
    for (const bar of bars) bar.setAttribute("aria-pressed", String(bar.dataset.name === chosen));
  }
}

function showNothing() {
  for (const { run, answer, bars, inside } of cards) {
    bars.forEach((bar, i) => setBar(bar, run.classes[i], null));
    answer.querySelector(".label").textContent = "\u00a0";
    inside.hidden = true;
  }
  clearTimeout(telling);
  $("said").textContent = "";
  say("");
}

function showInside(found, number) {
  const card = cards[number].inside;
  const { image } = found;
  paint(card.querySelector(".seen"), columnOf(image));
  showWeights(card.querySelector(".weights"), columnOf(image), found.weights);
  card.querySelector(".why").textContent =
    `What speaks for ${found.explained} (red) and against it (blue), by ${found.method}: ` +
    "each place covered in turn";
  showNearest(card, found.nearest);
  showLayers(card.querySelector(".layers"), found.layers);
}

// Images one below the other, as one.
function columnOf({ count, channels, height, width, pixels }) {
  const bytes = atob(pixels);
  const size = height * width;
  const column = new ImageData(width, count * height);
  for (let number = 0; number < count; number++) {
    for (let i = 0; i < size; i++) {
      const at = 4 * (number * size + i);
      for (let c = 0; c < 3; c++) {
        const plane = number * channels + Math.min(c, channels - 1);
        column.data[at + c] = bytes.charCodeAt(plane * size + i);
      }
      column.data[at + 3] = 255;
    }
  }
  return column;
}

function paint(canvas, image) {
  if (canvas.width !== image.width) canvas.width = image.width;
  if (canvas.height !== image.height) canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function showWeights(canvas, image, weights) {
  const all = weights.flat();
  const most = all.reduce((largest, weight) => Math.max(largest, Math.abs(weight)), 1e-9);
  const mixed = new ImageData(image.width, image.height);
  all.forEach((weight, i) => {
    const part = Math.abs(weight) / most;
    const colour = weight > 0 ? [255, 64, 40] : [50, 120, 255];
    for (let c = 0; c < 3; c++) {
      mixed.data[4 * i + c] = 0.45 * image.data[4 * i + c] * (1 - part) + colour[c] * part;
    }
    mixed.data[4 * i + 3] = 255;
  });
  paint(canvas, mixed);
}

let again = null; // until training images are there

function showNearest(card, nearest) {
  const list = card.querySelector(".nearest");
  const text = card.querySelector(".among");
  if (nearest.problem) {
    list.replaceChildren();
    text.textContent = `No training images: ${nearest.problem}.`;
    if (nearest.pending) {
      clearTimeout(again);
      again = setTimeout(() => {
        looked = 0;
        look();
      }, 1000);
    }
    return;
  }
  const column = columnOf(nearest);
  while (list.children.length < nearest.count) {
    const place = document.createElement("div");
    place.append(document.createElement("canvas"), document.createElement("span"));
    list.append(place);
  }
  [...list.children].forEach((place, i) => {
    const [canvas, label] = place.children;
    if (canvas.width !== nearest.width) canvas.width = nearest.width;
    if (canvas.height !== nearest.height) canvas.height = nearest.height;
    canvas.getContext("2d").putImageData(column, 0, -i * nearest.height);
    label.textContent = nearest.labels[i];
  });
  text.textContent =
    `Of ${nearest.among.toLocaleString("en")} training images, those that look most alike to ` +
    "the network";
}

function showLayers(place, layers) {
  if (place.children.length !== layers.length) {
    place.replaceChildren(
      ...layers.map(() => {
        const row = document.createElement("div");
        row.className = "layer";
        row.innerHTML =
          '<div><div class="name"></div><div class="shape"></div></div>' +
          '<div class="maps"><canvas role="img"></canvas></div>';
        return row;
      }),
    );
  }
  if (!layers.length) return;
  const available = place.querySelector(".maps").clientWidth;
  layers.forEach((layer, i) => {
    const row = place.children[i];
    const [units, height, width] = layer.shape;
    const more = layer.count < units ? `, the first ${layer.count}` : "";
    row.querySelector(".name").textContent = layer.name;
    row.querySelector(".shape").textContent =
      height === undefined ? `${units} units` : `${units} maps of ${height} × ${width}${more}`;
    const canvas = row.querySelector("canvas");
    canvas.setAttribute("aria-label", `Outputs of ${layer.name}`);
    showMaps(canvas, layer, height === undefined, available);
  });
}

const source = document.createElement("canvas");

function showMaps(canvas, layer, isVector, available) {
  // Of a vector, each unit is a map of one pixel.
  const maps = isVector ? { ...layer, count: layer.width, width: 1 } : layer;
  paint(source, columnOf(maps));
  const gap = 2;
  const most = isVector ? 50 : 16;
  const size = isVector ? 12 : Math.min(52, Math.max(36, Math.floor(available / most) - gap));
  const columns = Math.max(1, Math.min(maps.count, most, Math.floor(available / (size + gap))));
  const rows = Math.ceil(maps.count / columns);
  const scale = devicePixelRatio || 1;
  const [across, down] = [columns, rows].map((number) => number * (size + gap));
  const [pixels, lines] = [Math.round(across * scale), Math.round(down * scale)];
  if (canvas.width !== pixels) canvas.width = pixels;
  if (canvas.height !== lines) canvas.height = lines;
  canvas.style.width = `${across}px`;
  const brush = canvas.getContext("2d");
  brush.setTransform(scale, 0, 0, scale, 0, 0);
  brush.imageSmoothingEnabled = false;
  brush.fillStyle = "#6b7484"; // the gaps
  brush.clearRect(0, 0, across, down);
  for (let i = 0; i < maps.count; i++) {
    const [x, y] = [i % columns, Math.floor(i / columns)].map((at) => at * (size + gap) + gap / 2);
    brush.fillRect(x - gap / 2, y - gap / 2, size + gap, size + gap);
    brush.drawImage(source, 0, i * maps.height, maps.width, maps.height, x, y, size, size);
  }
}

addEventListener("resize", () => {
  looked = 0; // the maps are laid out anew
  look();
});

// ---- Begin --------------------------------------------------------------------------------

async function start() {
  try {
    ({ runs } = await fetched("runs"));
  } catch (error) {
    say(error.message);
    return;
  }
  const draws = runs[0].draws;
  document.title = `fastconv: ${runs.map((run) => run.name).join(", ")}`;
  $("task").textContent = draws
    ? "Draw a digit with mouse, finger, pen or keys"
    : "Open, paste or drop a picture";
  $("drawing").hidden = $("keys").hidden = !draws;
  if (draws) $("choose-text").textContent = "Open a picture of a digit";
  makeCards();
  showNothing();
  drawPaper();
  document.body.dataset.ready = "yes";
}

start();
