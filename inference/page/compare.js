// Before and after in one place: a divider to drag, zoom up to eight screen pixels per image pixel, and full screen.
// `props.value` is what `views_of` in layout.py returns; `element` holds compare.html.
const find = (name) => element.querySelector(`.${name}`);
const LARGEST = 8;
let zoom = null; // screen pixels per image pixel; null fits the image into the frame
let position = 0.5; // of the divider in the frame

const results = () => props.value || [];
const natural = () => [find("before").naturalWidth || 1, find("before").naturalHeight || 1];

function room() {
  const full = document.fullscreenElement === find("stage");
  return full ? [innerWidth, innerHeight] : [element.clientWidth, Math.max(240, 0.75 * innerHeight)];
}

function fitting() {
  const [width, height] = natural();
  const [across, down] = room();
  return Math.min(across / width, down / height);
}

function draw() {
  const [width, height] = natural();
  const scale = zoom === null ? fitting() : zoom / devicePixelRatio;
  const frame = find("frame");
  const [across, down] = room();
  frame.style.width = `${Math.min(across, width * scale)}px`;
  frame.style.height = `${Math.min(down, height * scale)}px`;
  const pair = find("pair");
  pair.style.width = `${width * scale}px`;
  pair.style.height = `${height * scale}px`;
  pair.classList.toggle("pixels", zoom !== null && zoom >= 2);
  frame.classList.toggle("zoomed", zoom !== null && scale > fitting());
  find("scale").textContent = `${Math.round(100 * scale * devicePixelRatio)} %`;
  divide();
}

function divide() {
  const frame = find("frame");
  const left = frame.scrollLeft + position * frame.clientWidth;
  find("after").style.clipPath = `inset(0 0 0 ${left}px)`;
  const divider = find("divider");
  divider.style.left = `${frame.offsetLeft + position * frame.clientWidth}px`;
  divider.style.height = `${frame.clientHeight}px`;
  divider.setAttribute("aria-valuenow", Math.round(100 * position));
}

function zoomTo(value, x = 0.5, y = 0.5) {
  // The point at (x, y) of the frame stays where it is.
  const frame = find("frame");
  const pair = find("pair");
  const at = [frame.scrollLeft + x * frame.clientWidth, frame.scrollTop + y * frame.clientHeight];
  const seen = [at[0] / pair.clientWidth, at[1] / pair.clientHeight];
  const fit = fitting() * devicePixelRatio;
  zoom = value === null ? null : Math.min(Math.max(value, Math.min(fit, 1)), Math.max(fit, LARGEST));
  draw();
  frame.scrollLeft = seen[0] * pair.clientWidth - x * frame.clientWidth;
  frame.scrollTop = seen[1] * pair.clientHeight - y * frame.clientHeight;
  divide();
}

const zoomBy = (factor, x, y) => zoomTo((zoom === null ? fitting() * devicePixelRatio : zoom) * factor, x, y);

function moveTo(event) {
  const box = find("frame").getBoundingClientRect();
  position = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  divide();
}

function show(index) {
  const result = results()[index];
  element.hidden = !result;
  if (!result) return;
  find("before").src = result.before;
  find("after").src = result.after;
  find("details").textContent = result.details;
  find("video").hidden = !result.video;
  if (result.video) find("video").src = result.video;
  else find("video").removeAttribute("src");
  zoom = null;
  position = 0.5;
}

async function arrive() {
  await Promise.allSettled([find("before").decode(), find("after").decode()]);
  element.scrollIntoView({ behavior: "smooth", block: "nearest" });
}

function fill() {
  const choice = find("choice");
  choice.replaceChildren(...results().map((result, index) => new Option(result.name, index)));
  choice.hidden = results().length < 2;
  show(0);
  if (results().length) arrive();
}

find("choice").addEventListener("change", (event) => show(Number(event.target.value)));
for (const name of ["before", "after"]) find(name).addEventListener("load", draw);
find("video").addEventListener("error", () => (find("video").hidden = true)); // a format that this browser does not play
find("closer").addEventListener("click", () => zoomBy(1.5));
find("further").addEventListener("click", () => zoomBy(1 / 1.5));
find("exact").addEventListener("click", () => zoomTo(1));
find("fit").addEventListener("click", () => zoomTo(null));
find("large").hidden = !document.fullscreenEnabled;
find("large").addEventListener("click", () =>
  document.fullscreenElement ? document.exitFullscreen() : find("stage").requestFullscreen(),
);

const frame = find("frame");
const divider = find("divider");
let dragging = false;
for (const part of [frame, divider]) {
  part.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || (part === frame && frame.classList.contains("zoomed"))) return;
    dragging = true;
    part.setPointerCapture(event.pointerId);
    moveTo(event);
    event.preventDefault();
  });
  part.addEventListener("pointermove", (event) => dragging && moveTo(event));
  for (const end of ["pointerup", "pointercancel"]) part.addEventListener(end, () => (dragging = false));
}
// A mouse pans a zoomed image by dragging it; fingers scroll it.
frame.addEventListener("pointermove", (event) => {
  if (dragging || event.pointerType !== "mouse" || event.buttons !== 1) return;
  frame.scrollLeft -= event.movementX;
  frame.scrollTop -= event.movementY;
});
frame.addEventListener("scroll", divide);
frame.addEventListener("dblclick", (event) => {
  const box = frame.getBoundingClientRect();
  zoomTo(zoom === null ? 1 : null, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
});
frame.addEventListener(
  "wheel",
  (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the wheel alone scrolls
    event.preventDefault();
    const box = frame.getBoundingClientRect();
    const at = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    zoomBy(Math.exp(-event.deltaY / 300), ...at);
  },
  { passive: false },
);
divider.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
  if (step === undefined) return;
  position = Math.min(1, Math.max(0, position + step));
  divide();
  event.preventDefault();
});
new ResizeObserver(draw).observe(element);
document.addEventListener("fullscreenchange", draw);
watch("value", fill);
fill();
