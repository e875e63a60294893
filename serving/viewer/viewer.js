"use strict";
const $ = (id) => document.getElementById(id);
const state = { file: null, name: "", job: null, views: null, composite: "", at: [0, 0], pixel: null, pictures: new Map() };

async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  const token = $("token").value.trim();
  if (token) headers.set("Authorization", `Bearer ${token}`);
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  const error = new Error(told.error || `the service answered ${answer.status}`);
  error.status = answer.status;
  throw error;
}

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").className = isError ? "error" : "";
}

async function loadModels() {
  try {
    const models = await (await ask("/v1/models")).json();
    $("model").replaceChildren(...models.map((one) => new Option(`${one.name} (${one.bands.length} bands)`, one.name, one.default, one.default)));
    if ($("token").value) sessionStorage.setItem("token", $("token").value);
    say(state.file ? "" : "Choose a series.");
  } catch (error) {
    if (error.status === 401) {
      $("access").hidden = false;
      say($("token").value ? error.message : "Enter the access token of this service.", Boolean($("token").value));
      $("token").focus();
    } else say(error.message, true);
  }
  $("start").disabled = !state.file || !$("model").value;
}

function choose(file, name) {
  [state.file, state.name] = [file, name];
  $("drop").textContent = `${name}, ${(file.size / 1e6).toFixed(1)} MB`;
  $("start").disabled = !$("model").value;
  say("");
}

async function takeSample() {
  say("Making a sample …");
  try {
    choose(await (await ask("/v1/samples/simulated.nc")).blob(), "simulated.nc");
  } catch (error) { say(error.message, true); }
}

async function start() {
  const query = new URLSearchParams({ model: $("model").value, seed: $("seed").value || "0", format: "netcdf", wait: "false", views: "true" });
  if ($("steps").value) query.set("steps", $("steps").value);
  const dates = $("dates").value.trim();
  if (dates) query.set(/^(\d+|month)$/.test(dates) ? "every" : "dates", dates.split(/[\s,;]+/).join(","));
  $("start").disabled = true;
  $("result").hidden = true;
  show(0, 0);
  say("Sending …");
  try {
    const kind = state.name.toLowerCase().endsWith(".zip") ? "application/zip" : "application/x-netcdf";
    const answer = await ask(`/v1/reconstructions?${query}`, { method: "POST", body: state.file, headers: { "Content-Type": kind } });
    state.job = await answer.json();
    $("cancel").hidden = false;
    const ended = await follow(state.job.links.events);
    if (ended.status !== "done") throw new Error(ended.error || ended.status);
    state.job = ended;
    await openResult();
    say([`Done: ${state.views.dates.length} dates.`, ...(state.views.remarks ?? [])].join(" "));
  } catch (error) { say(error.message, true); }
  $("progress").hidden = true;
  $("cancel").hidden = true;
  $("start").disabled = false;
}

function show(done, total) {
  $("progress").hidden = false;
  if (total) $("progress").value = done / total;
  else $("progress").removeAttribute("value");
}

/* EventSource cannot send an Authorization header, so fetch reads the stream. */
async function follow(path) {
  const reader = (await ask(path)).body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", last = null;
  for (;;) {
    const { value, done } = await reader.read();
    text += value || "";
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (!data) continue;
      last = JSON.parse(data.slice(6));
      show(last.done, last.total);
      say(last.status === "queued" ? "Queued …" : last.total ? `${last.done} of ${last.total} windows` : "Reading …");
    }
    if (done) {
      if (!last) throw new Error("the service closed the connection");
      return last;
    }
  }
}

async function openResult() {
  state.views = await (await ask(`${state.job.links.self}/views`)).json();
  for (const url of state.pictures.values()) URL.revokeObjectURL(await url);
  state.pictures.clear();
  const { dates, composites, bands, index, interval } = state.views;
  $("uncertainty-choice").hidden = interval === null;
  $("band-legend").hidden = interval === null;
  if (interval === null && overlay() === "uncertainty") document.querySelector("[name=overlay]").checked = true;
  $("date").max = dates.length - 1;
  $("date").value = Math.max(0, state.views.gaps.indexOf(Math.max(...state.views.gaps)));
  const names = Object.keys(composites);
  state.composite = names.includes(state.composite) ? state.composite : names[0];
  $("composites").replaceChildren($("composites").firstElementChild, ...names.map((name) => {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "composite", value: name, checked: name === state.composite });
    input.addEventListener("change", () => { state.composite = name; drawImages(); });
    label.append(input, ` ${composites[name]}`);
    return label;
  }));
  $("band").replaceChildren(...[...(index ? [index] : []), ...bands].map((name) => new Option(name, name)));
  $("result").hidden = false;
  state.at = [Math.floor(state.views.size[0] / 2), Math.floor(state.views.size[1] / 2)];
  await Promise.all([drawImages(), drawPixel()]);
}

function overlay() {
  return document.querySelector("[name=overlay]:checked").value;
}

function picture(index, of) {
  const kind = of === "clear" || of === "cloudy" ? `&composite=${encodeURIComponent(state.composite)}` : "";
  const path = `${state.job.links.self}/views/${index}?of=${of}${kind}`;
  if (!state.pictures.has(path)) state.pictures.set(path, ask(path).then((answer) => answer.blob()).then(URL.createObjectURL));
  return state.pictures.get(path);
}

async function drawImages() {
  const index = Number($("date").value);
  $("shown-date").value = `${state.views.dates[index]}, ${Math.round(100 * state.views.gaps[index])} % reconstructed`;
  const over = overlay();
  for (const of of ["gaps", "uncertainty"]) $(`${of}-legend`).hidden = over !== of;
  try {
    const [clear, cloudy, layer] = await Promise.all(["clear", "cloudy", ...(over ? [over] : [])].map((of) => picture(index, of)));
    if (index !== Number($("date").value) || over !== overlay()) return;
    [$("clear").src, $("cloudy").src] = [clear, cloudy];
    $("layer").hidden = !over;
    $("layer").className = over;
    if (over) $("layer").src = layer;
  } catch (error) { say(error.message, true); }
  drawChart();
}

async function drawPixel() {
  const [row, column] = state.at, [height, width] = state.views.size;
  $("cursor").hidden = false;
  $("cursor").style.top = `${100 * (row + 0.5) / height}%`;
  $("cursor").style.left = `${100 * (column + 0.5) / width}%`;
  $("pixel").value = `row ${row}, column ${column}`;
  try {
    const pixel = await (await ask(`${state.job.links.self}/pixels/${row}/${column}`)).json();
    if (row === state.at[0] && column === state.at[1]) { state.pixel = pixel; drawChart(); }
  } catch (error) { say(error.message, true); }
}

function drawChart() {
  const chart = $("chart");
  chart.replaceChildren();
  if (!state.pixel) return;
  const times = state.views.dates.map((date) => Date.parse(date)), name = $("band").value;
  const clear = state.pixel.clear[name], cloudy = state.pixel.cloudy[name], gap = state.pixel.gap;
  const spread = (state.pixel.uncertainty?.[name] || []).map((one) => one * state.views.interval);
  const limits = spread.flatMap((one, i) => [clear[i] - one, clear[i] + one]);
  const known = clear.concat(cloudy.filter((value, i) => !gap[i]), limits).filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)], margin = Math.max((high - low) * 0.1, 0.01);
  const first = times[0], last = Math.max(times[times.length - 1], first + 1);
  const x = (time) => 50 + 655 * (time - first) / (last - first);
  const y = (value) => 260 - 240 * (value - low + margin) / (high - low + 2 * margin);
  const add = (tag, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    chart.append(node);
  };
  times.forEach((time, i) => {
    if (!gap[i]) return;
    const left = i ? (time + times[i - 1]) / 2 : time, right = i + 1 < times.length ? (time + times[i + 1]) / 2 : time;
    add("rect", { class: "gap", x: x(left), y: 15, width: Math.max(x(right) - x(left), 2), height: 245 });
  });
  for (const value of [low, (low + high) / 2, high]) {
    add("line", { class: "axis", x1: 50, x2: 705, y1: y(value), y2: y(value) });
    add("text", { x: 44, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(2));
  }
  const middle = Math.floor((times.length - 1) / 2), apart = Math.min(x(times[middle]) - x(first), x(last) - x(times[middle]));
  for (const i of new Set(apart > 130 ? [0, middle, times.length - 1] : [0, times.length - 1])) {
    add("text", { x: x(times[i]), y: 284, "text-anchor": i ? (i === times.length - 1 ? "end" : "middle") : "start" }, state.views.dates[i]);
  }
  add("line", { class: "now", x1: x(times[$("date").value]), x2: x(times[$("date").value]), y1: 15, y2: 260 });
  if (spread.length) {
    const upper = times.map((time, i) => `${x(time)},${y(clear[i] + spread[i])}`), lower = times.map((time, i) => `${x(time)},${y(clear[i] - spread[i])}`);
    add("polygon", { class: "likely", points: upper.concat(lower.reverse()).join(" ") });
  }
  add("polyline", { class: "clear", points: times.map((time, i) => (clear[i] === null ? "" : `${x(time)},${y(clear[i])}`)).join(" ") });
  times.forEach((time, i) => {
    if (clear[i] !== null) add("circle", { class: gap[i] ? "filled" : "seen", cx: x(time), cy: y(clear[i]), r: 4 });
  });
}

function move(rows, columns) {
  const [height, width] = state.views.size;
  state.at = [Math.min(Math.max(state.at[0] + rows, 0), height - 1), Math.min(Math.max(state.at[1] + columns, 0), width - 1)];
  drawPixel();
}

async function download() {
  const [name, link] = Object.entries(state.job.files).find(([one]) => one.endsWith(".nc"));
  try {
    const url = URL.createObjectURL(await (await ask(link)).blob());
    const anchor = Object.assign(document.createElement("a"), { href: url, download: name });
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  } catch (error) { say(error.message, true); }
}

$("token").value = sessionStorage.getItem("token") || "";
$("token").addEventListener("change", loadModels);
$("file").addEventListener("change", () => { if ($("file").files[0]) choose($("file").files[0], $("file").files[0].name); });
$("sample").addEventListener("click", takeSample);
$("ask").addEventListener("submit", (event) => { event.preventDefault(); start(); });
$("cancel").addEventListener("click", () => ask(state.job.links.self, { method: "DELETE" }).catch((error) => say(error.message, true)));
$("date").addEventListener("input", drawImages);
$("overlays").addEventListener("change", drawImages);
$("band").addEventListener("change", drawChart);
$("swipe").addEventListener("input", () => $("stage").style.setProperty("--swipe", `${$("swipe").value}%`));
$("download").addEventListener("click", download);
$("stage").addEventListener("click", (event) => {
  const box = $("stage").getBoundingClientRect(), [height, width] = state.views.size;
  state.at = [Math.floor((event.clientY - box.top) / box.height * height), Math.floor((event.clientX - box.left) / box.width * width)];
  move(0, 0);
});
$("stage").addEventListener("keydown", (event) => {
  const ways = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Enter: [0, 0] };
  if (!(event.key in ways)) return;
  event.preventDefault();
  move(...ways[event.key].map((step) => step * (event.shiftKey ? 10 : 1)));
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) choose(event.dataTransfer.files[0], event.dataTransfer.files[0].name);
  });
}
loadModels();
