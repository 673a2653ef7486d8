"use strict";
// Speech comes as 16-bit PCM and is played piece by piece, as it arrives; the charts are drawn from
// /v1/stats and /v1/box, asked for once a second.

const RATE = 24000;
const KEPT = 120;
const COLOURS = ["#3b7de0", "#e0662a", "#1f9d55", "#a34ec4"];
const HEAT = ["tj", "gpu", "cpu"];
const ROWS = 6;
const $ = (id) => document.getElementById(id);

const page = {
  audio: null, abort: null, until: 0, seen: 0,
  rtf: { requests: [] }, first: { requests: [] }, queue: { waiting: [] }, clocks: {}, heat: {},
};

function headers() {
  const key = $("key").value;
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function get(path) {
  const answer = await fetch(path, { headers: headers() });
  if (answer.status === 401) {
    $("locked").hidden = false;
    throw new Error((await answer.json()).error.message, { cause: "key" });
  }
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function loadVoices() {
  const { voices, default_voice, aside } = await get("/v1/voices");
  const chosen = $("voice").value || default_voice;
  $("voice").replaceChildren(...voices.map((voice) => {
    const language = voice.language ? ` (${voice.language})` : "";
    return new Option(voice.id + language, voice.id, false, voice.id === chosen);
  }));
  $("aside").hidden = aside.length === 0;
  $("aside").textContent = aside.map((voice) => `${voice.id} cannot be used: ${voice.why}`).join(" ");
}

// ---- speech --------------------------------------------------------------------------------------

function tell(text, bad = false) {
  $("result").textContent = text;
  $("result").className = bad ? "bad" : "";
}

function play(samples) {
  if (!samples.length) return;
  const buffer = page.audio.createBuffer(1, samples.length, RATE);
  buffer.copyToChannel(samples, 0);
  const source = page.audio.createBufferSource();
  source.buffer = buffer;
  source.connect(page.audio.destination);
  page.until = Math.max(page.until, page.audio.currentTime + 0.05);
  source.start(page.until);
  page.until += buffer.duration;
}

async function speak() {
  stop();
  page.audio = new AudioContext({ sampleRate: RATE });
  page.until = 0;
  page.abort = new AbortController();
  $("stop").disabled = false;
  const began = performance.now();
  let first = 0, frames = 0, peak = 0, rest = new Uint8Array(0);
  const body = {
    input: $("text").value, voice: $("voice").value, speed: Number($("speed").value),
    response_format: "pcm", fallback: true,
  };
  if ($("chat").checked) body.normalize = true;
  tell("…");
  try {
    const answer = await fetch("/v1/audio/speech", {
      method: "POST", body: JSON.stringify(body), signal: page.abort.signal,
      headers: { "Content-Type": "application/json", ...headers() },
    });
    if (answer.status === 401) $("locked").hidden = false;
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    const reader = answer.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      first ||= performance.now() - began;
      const bytes = new Uint8Array(rest.length + value.length);
      bytes.set(rest);
      bytes.set(value, rest.length);
      const whole = bytes.length - (bytes.length % 2);
      rest = bytes.slice(whole);
      const view = new DataView(bytes.buffer, 0, whole);
      const samples = Float32Array.from({ length: whole / 2 }, (_, n) => view.getInt16(2 * n, true) / 32768);
      for (const sample of samples) peak = Math.max(peak, Math.abs(sample));
      frames += samples.length;
      play(samples);
    }
    Object.assign($("result").dataset, { frames, peak, engine: answer.headers.get("x-ishowtts-engine") });
    const note = answer.headers.get("x-ishowtts-fallback") === "true" ? ", by the fallback voice" : "";
    const ignored = answer.headers.get("x-ishowtts-ignored");
    tell(`${(frames / RATE).toFixed(1)} s of speech, first audio after ${first.toFixed(0)} ms${note}${ignored ? `, without ${ignored}` : ""}`);
  } catch (error) {
    if (error.name === "AbortError") tell("Stopped.");
    else tell(error.message, true);
  } finally {
    $("stop").disabled = true;
  }
}

function stop() {
  page.abort?.abort();
  page.abort = null;
  page.audio?.close();
  page.audio = null;
}

// ---- charts --------------------------------------------------------------------------------------

function keep(rows, name, value) {
  const row = (rows[name] ??= []);
  row.push(value);
  if (row.length > KEPT) row.shift();
}

// The least round number that is not below: an axis that ends there reads well.
function above(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 4, 5, 6, 8, 10].map((step) => step * unit).find((end) => end >= value);
}

function label(value) {
  return value >= 10 || Number.isInteger(value) ? value.toFixed(0) : String(Number(value.toPrecision(2)));
}

// rows: values by name, the newest last. limits: a dashed line by name.
function draw(id, rows, digits, least = 1, limits = {}) {
  const canvas = $(id), pen = canvas.getContext("2d"), scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const names = Object.keys(rows);
  const top = above(Math.max(least, ...Object.values(rows).flat(), ...names.map((name) => limits[name] || 0)));
  const left = 40, right = width - 6, bottom = height - 6, high = bottom - 12;
  const at = (value) => bottom - (value / top) * high;
  const soft = getComputedStyle(canvas.parentElement).getPropertyValue("--soft") || "#888";
  pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const part of [0, 0.5, 1]) {
    pen.fillStyle = soft;
    pen.fillText(label(top * part), left - 6, at(top * part));
    pen.strokeStyle = "#8883";
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(left, Math.round(at(top * part)) + 0.5);
    pen.lineTo(right, Math.round(at(top * part)) + 0.5);
    pen.stroke();
  }
  names.forEach((name, number) => {
    const row = rows[name];
    pen.strokeStyle = pen.fillStyle = COLOURS[number % COLOURS.length];
    if (limits[name]) {
      pen.lineWidth = 1;
      pen.setLineDash([3, 4]);
      pen.beginPath();
      pen.moveTo(left, at(limits[name]));
      pen.lineTo(right, at(limits[name]));
      pen.stroke();
      pen.setLineDash([]);
    }
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.beginPath();
    const points = row.map((value, n) => [right - (row.length - 1 - n) * ((right - left) / (KEPT - 1)), at(value)]);
    points.forEach(([x, y], n) => { if (n) pen.lineTo(x, y); else pen.moveTo(x, y); });
    pen.stroke();
    const last = points[points.length - 1];
    if (last) {
      pen.beginPath();
      pen.arc(last[0], last[1], 3, 0, 7);
      pen.fill();
    }
  });
  const heard = names.filter((name) => rows[name].length);
  canvas.parentElement.querySelector("output").replaceChildren(...heard.map((name, number) => {
    const value = rows[name][rows[name].length - 1].toFixed(digits);
    const item = document.createElement("span"), strong = document.createElement("b");
    strong.textContent = value;
    item.append(...(names.length > 1 ? [`${name} `, strong] : [strong]));
    if (names.length > 1) item.style.color = COLOURS[number % COLOURS.length];
    return item;
  }), ...(heard.length ? [] : [id === "rtf" || id === "first" ? "nothing yet" : "not known here"]));
}

function list(recent) {
  $("recent").replaceChildren(...recent.slice(-ROWS).reverse().map((one) => {
    const row = document.createElement("tr");
    const cells = [
      new Date(one.at * 1000).toLocaleTimeString([], { hour12: false }), one.voice, `${one.audio_seconds.toFixed(1)} s`,
      `${(one.first_audio_seconds * 1000).toFixed(0)} ms`, one.rtf.toFixed(3),
    ];
    row.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    return row;
  }));
}

// The hottest says it all where a board has a dozen sensors; these are the ones people know.
function sensors(temperatures) {
  const known = HEAT.filter((name) => name in temperatures);
  const rest = Object.keys(temperatures).filter((name) => !known.includes(name));
  rest.sort((one, other) => temperatures[other] - temperatures[one]);
  return (known.length ? known : rest.slice(0, HEAT.length)).map((name) => [name, temperatures[name]]);
}

async function look() {
  try {
    const [stats, box] = await Promise.all([get("/v1/stats"), get("/v1/box")]);
    $("state").textContent = stats.stage;
    $("state").className = stats.status;
    // A daemon that was started again counts from one again.
    if ((stats.recent.at(-1)?.number ?? 0) < page.seen) page.seen = 0;
    for (const one of stats.recent.filter((row) => row.number > page.seen)) {
      page.seen = one.number;
      keep(page.rtf, "requests", one.rtf);
      keep(page.first, "requests", one.first_audio_seconds * 1000);
    }
    keep(page.queue, "waiting", stats.queue.depth + (stats.queue.busy ? 1 : 0));
    for (const [name, value] of Object.entries(box.clocks_mhz)) keep(page.clocks, name, value);
    for (const [name, value] of sensors(box.temperatures_c)) keep(page.heat, name, value);
    draw("rtf", page.rtf, 3, 0.001);
    draw("first", page.first, 0);
    draw("queue", page.queue, 0, 2);
    draw("clocks", page.clocks, 0, 1, box.limits_mhz);
    draw("heat", page.heat, 1, 50);
    list(stats.recent);
    $("hot").hidden = box.throttling.length === 0;
    $("hot").textContent = `Held down by heat: ${box.throttling.join(", ")}`;
    document.body.dataset.looks = Number(document.body.dataset.looks || 0) + 1;
    if (!$("voice").options.length) await loadVoices();
  } catch (error) {
    const locked = error.cause === "key";
    $("state").textContent = locked ? error.message : `The daemon does not answer (${error.message}).`;
    $("state").className = locked ? "warming" : "failing";
  }
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); speak(); });
$("stop").addEventListener("click", stop);
$("key").addEventListener("change", loadVoices);
$("voice").addEventListener("focus", loadVoices);
look();
setInterval(look, 1000);
