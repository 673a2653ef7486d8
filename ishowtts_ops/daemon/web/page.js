"use strict";
// Speech comes as 16-bit PCM and is played piece by piece, as it arrives; the charts are drawn from
// /v1/stats and /v1/box, asked for once a second.

const RATE = 24000;
const KEPT = 120;
const COLOURS = ["#2a6fdb", "#d9480f", "#1a9c4b", "#9c36b5", "#b08900", "#0b7285", "#c2255c"];
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
  if (answer.status === 401) $("locked").hidden = false;
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function loadVoices() {
  const { voices, default_voice } = await get("/v1/voices");
  const chosen = $("voice").value || default_voice;
  $("voice").replaceChildren(...voices.map((voice) => {
    const language = voice.language ? ` (${voice.language})` : "";
    return new Option(voice.id + language, voice.id, false, voice.id === chosen);
  }));
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
    tell(`${(frames / RATE).toFixed(1)} s of speech, first audio after ${first.toFixed(0)} ms${note}`);
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

function draw(id, rows, digits) {
  const canvas = $(id), pen = canvas.getContext("2d");
  const { width, height } = canvas;
  pen.clearRect(0, 0, width, height);
  const all = Object.values(rows).flat();
  const top = (Math.max(...all, 0) || 1) * 1.1;
  pen.font = "11px sans-serif";
  pen.fillStyle = "#888";
  pen.strokeStyle = "#8884";
  for (const part of [0, 0.5, 1]) {
    const y = height - 4 - part * (height - 16);
    pen.beginPath();
    pen.moveTo(0, y);
    pen.lineTo(width, y);
    pen.stroke();
    pen.fillText((top * part).toFixed(top < 10 ? 2 : 0), 2, y - 2);
  }
  Object.entries(rows).forEach(([name, row], number) => {
    pen.strokeStyle = pen.fillStyle = COLOURS[number % COLOURS.length];
    pen.beginPath();
    row.forEach((value, n) => {
      const x = width - 6 - (row.length - 1 - n) * ((width - 40) / KEPT);
      const y = height - 4 - (value / top) * (height - 16);
      if (n) pen.lineTo(x, y); else pen.moveTo(x, y);
      if (row.length < 40) pen.fillRect(x - 1.5, y - 1.5, 3, 3);
    });
    pen.stroke();
    if (Object.keys(rows).length > 1) pen.fillText(name, 50 + 52 * number, 11);
  });
  const last = Object.entries(rows).filter(([, row]) => row.length)
    .map(([name, row]) => [name, row[row.length - 1]]);
  canvas.parentElement.querySelector("output").textContent = last.length === 0 ? "not known here"
    : last.length === 1 ? last[0][1].toFixed(digits)
    : last.map(([name, value]) => `${name} ${value.toFixed(digits)}`).join("  ");
}

async function look() {
  try {
    const [stats, box] = await Promise.all([get("/v1/stats"), get("/v1/box")]);
    $("state").textContent = stats.stage;
    $("state").className = stats.status;
    for (const one of stats.recent.filter((row) => row.number > page.seen)) {
      page.seen = one.number;
      keep(page.rtf, "requests", one.rtf);
      keep(page.first, "requests", one.first_audio_seconds * 1000);
    }
    keep(page.queue, "waiting", stats.queue.depth + (stats.queue.busy ? 1 : 0));
    for (const [name, value] of Object.entries(box.clocks_mhz)) keep(page.clocks, name, value);
    for (const [name, value] of Object.entries(box.temperatures_c)) keep(page.heat, name, value);
    draw("rtf", page.rtf, 3);
    draw("first", page.first, 0);
    draw("queue", page.queue, 0);
    draw("clocks", page.clocks, 0);
    draw("heat", page.heat, 1);
    document.body.dataset.looks = Number(document.body.dataset.looks || 0) + 1;
    if (!$("voice").options.length) await loadVoices();
  } catch (error) {
    $("state").textContent = `The daemon does not answer (${error.message}).`;
    $("state").className = "failing";
  }
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); speak(); });
$("stop").addEventListener("click", stop);
$("key").addEventListener("change", loadVoices);
$("voice").addEventListener("focus", loadVoices);
look();
setInterval(look, 1000);
