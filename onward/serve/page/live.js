// The page's life: asks the server for what is new, and draws all that is known.

const PERIOD = 1000, OUTCOMES = 2000, FRAMES = 300;
const state = { outcomes: [], frames: [], reply: null, started: null, steps: 300, rate: null, token: sessionStorage.getItem("token") };

async function ask() {
  const since = state.outcomes.at(-1)?.number ?? 0, frames = state.frames.at(-1)?.samples ?? 0;
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  const asked = performance.now();
  const response = await fetch(`/history?since=${since}&frames=${frames}`, { headers, cache: "no-store" });
  if (response.status === 401) return signIn();
  if (!response.ok) throw new Error(`the server answers ${response.status}`);
  const reply = await response.json();
  $("sign-in").hidden = true;
  if (state.started !== null && reply.about.started !== state.started) {  // another server: what is here is not its past
    Object.assign(state, { outcomes: [], frames: [], started: null, rate: null, reply: null });
    return ask();
  }
  if (state.reply) {
    const rate = (1000 * (reply.samples - state.reply.samples)) / (asked - state.asked);
    state.rate = state.rate === null ? rate : 0.6 * state.rate + 0.4 * rate;
  }
  Object.assign(state, { reply, asked, started: reply.about.started });
  state.outcomes = state.outcomes.concat(reply.outcomes).slice(-OUTCOMES);
  state.frames = state.frames.concat(reply.frames).slice(-FRAMES);
  draw();
}

async function poll() {
  if (!document.hidden) {
    try {
      await ask();
    } catch (error) {
      status("lost", "No answer from the server");
    }
  }
  setTimeout(poll, PERIOD);
}

function signIn() {
  const wrong = state.token !== null;
  state.token = null;
  sessionStorage.removeItem("token");
  if (wrong) $("sign-in-note").textContent = "That is not the token.";
  if ($("sign-in").hidden) {
    for (const part of ["live", "empty"]) $(part).hidden = true;
    $("sign-in").hidden = false;
    $("token").focus();
  }
  status("waiting", "Token needed");
}

function status(kind, text) {
  $("status").dataset.state = kind;
  if ($("status").textContent !== text) $("status").textContent = text;
}

function draw() {
  const { reply, outcomes, frames } = state, { about } = reply;
  $("target").textContent = about.target;
  document.title = `${about.target} · Onward`;
  $("about").textContent = `Forecasts ${about.horizon} step${about.horizon === 1 ? "" : "s"} ahead and learns after each: ${about.cell}, ${about.units} units, ${about.algorithm}`;
  footer(about);
  const started = reply.samples > 0;
  $("empty").hidden = started;
  $("live").hidden = !started;
  if (!started) {
    const record = JSON.stringify({ [about.target]: 3.5 });
    const token = state.token ? " -H 'Authorization: Bearer TOKEN'" : "";
    $("example").textContent = `curl${token} -H 'Content-Type: application/json' \\\n  -d '${record.replaceAll("'", "'\\''")}' ${location.origin}/learn`;
    return status("waiting", "Waiting for records");
  }
  status("live", "Live");
  tiles();
  if (outcomes.length) forecastChart();
  if (frames.length) { errorChart(); modelState(); }
  table();
}

function tiles() {
  const { reply, outcomes } = state, { figures, about } = reply, last = outcomes.at(-1);
  const put = (id, text, note) => { $(id).textContent = text; $(`${id}-note`).textContent = note; };
  put("observed", say(last?.value), last ? (last.time === null ? `sample ${count(last.number)}` : clock(last.time)) : "nothing since the start");
  put("forecast", say(reply.forecast), `for ${about.horizon} step${about.horizon === 1 ? "" : "s"} later`);
  put("mae", say(figures.mae), figures.judged ? `last ${count(Math.min(1000, figures.judged))} forecasts` : "none has come due");
  for (const [id, error] of [["naive", figures.naive_mae], ["seasonal", figures.seasonal_mae]]) {
    const change = error > 0 && known(figures.mae) ? figures.mae / error - 1 : NaN;
    put(id, known(change) ? `${change < 0 ? "−" : "+"}${Math.abs(100 * change).toFixed(Math.abs(change) < 0.1 ? 1 : 0)} %` : "–",
      known(error) ? `whose error is ${say(error)}` : id === "seasonal" && !about.season ? "no --season given" : "not known yet");
    $(id).dataset.verdict = change < 0 ? "better" : change > 0 ? "worse" : "";
  }
  put("samples", count(reply.samples), state.rate === null ? "samples" : `samples, ${say(state.rate)} a second`);
}

/** The name of a sample: its time where it is known, else its number; "" where others have times. */
function namer() {
  const times = new Map(state.outcomes.filter((one) => one.time !== null).map((one) => [one.number, one.time]));
  return (number, whole) => {
    const time = times.get(number);
    if (time === undefined) return whole ? `sample ${count(number)}` : times.size ? "" : count(number);
    return clock(time).slice(0, 16);
  };
}

/** The same by the frame before a sample. */
function frameNamer() {
  const { frames } = state, timed = frames.some((frame) => frame.time !== null);
  return (number, whole) => {
    const frame = frames.findLast((one) => one.samples <= number) ?? frames[0];
    return timed ? (frame.time === null ? "" : clock(frame.time).slice(0, 16)) : whole ? `sample ${count(number)}` : count(number);
  };
}

/** A time stamp in words: text as it came, seconds or milliseconds since 1970 as a date. */
function clock(time) {
  if (typeof time !== "number") return String(time).replace("T", " ");
  const date = new Date(Math.abs(time) < 1e11 ? time * 1000 : time);
  return Number.isNaN(date.getTime()) ? String(time) : date.toISOString().replace("T", " ").slice(0, 19);
}

function forecastChart() {
  const { steps, reply } = state, { horizon, season } = reply.about;
  const shown = state.outcomes.slice(-steps), last = shown.at(-1).number;
  const ahead = state.outcomes.slice(-horizon).slice(-Math.max(1, Math.floor(steps / 2)));
  const xs = shown.map((one) => one.number);
  const due = { xs: [...xs, ...ahead.map((one) => one.number + horizon)], ys: [...shown.map((one) => one.due), ...ahead.map((one) => one.forecast)] };
  const lines = [
    { kind: "observed", name: "observed", xs, ys: shown.map((one) => one.value) },
    { kind: "ours", name: "forecast", ...due },
  ];
  if (season) lines.unshift({ kind: "seasonal", name: "seasonal naive", xs, ys: shown.map((one) => one.seasonal) });
  const name = `made ${horizon} step${horizon === 1 ? "" : "s"} before`;
  legend($("forecast-legend"), lines.toReversed().map((line) => [line.kind, line.kind === "ours" ? `forecast, ${name}` : line.name]));
  const title = `The last ${shown.length} observations of ${reply.about.target} and the forecasts of them; the latest forecast is ${say(reply.forecast)}`;
  lineChart($("forecast-chart"), { lines, height: 300, zero: false, label: namer(), title, now: last });
  for (const button of document.querySelectorAll("[data-steps]")) button.setAttribute("aria-pressed", Number(button.dataset.steps) === steps);
}

function errorChart() {
  const { frames } = state, xs = frames.map((frame) => frame.samples);
  const all = [["seasonal", "seasonal naive", "seasonal_mae"], ["naive", "naive", "naive_mae"], ["ours", "Onward", "mae"]];
  const lines = all.map(([kind, name, key]) => ({ kind, name, xs, ys: frames.map((frame) => frame.figures[key]) }))
    .filter((line) => line.ys.some(known));
  legend($("error-legend"), lines.toReversed().map((line) => [line.kind, line.name]));
  $("error-legend").append("mean absolute error of the last 1,000 forecasts");
  if (!lines.length) { $("error-legend").textContent = "No forecast has come due yet."; return $("error-chart").replaceChildren(); }
  const title = `Rolling mean absolute error: ${lines.map((line) => `${line.name} ${say(line.ys.at(-1))}`).join(", ")}`;
  lineChart($("error-chart"), { lines, height: 220, zero: true, label: frameNamer(), title, ends: true });
}

function modelState() {
  const { frames, reply } = state, { figures } = reply, rows = frames.at(-1).activity.length;
  $("state-note").textContent = `${rows} states of units (rows) over the samples since ${count(frames[0].samples)}`;
  if (rows) heatStrip($("heat"), frames);
  legend($("norm-legend"), [["norm", `norm of all parameters, ${say(figures.norm)}`]]);
  const line = { kind: "norm", name: "norm", xs: frames.map((frame) => frame.samples), ys: frames.map((frame) => frame.figures.norm) };
  lineChart($("norm-chart"), { lines: [line], height: 110, zero: false, label: frameNamer(), title: `Norm of all parameters, now ${say(figures.norm)}`, ends: true });
}

function table() {
  if (!document.querySelector("details").open) return;
  const rows = state.outcomes.slice(-25).reverse().map((one) => {
    const row = document.createElement("tr");
    const cells = [count(one.number), one.time === null ? "–" : clock(one.time), ...[one.value, one.due, one.error, one.naive_error, one.seasonal_error].map(say)];
    row.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    return row;
  });
  $("rows").replaceChildren(...rows);
}

function footer(about) {
  const saved = about.checkpoint, figures = state.reply.figures;
  const parts = [];
  if (figures.refused) parts.push(`${count(figures.refused)} updates refused, since they were not finite`);
  if (figures.missing) parts.push(`${count(figures.missing)} values missing`);
  if (known(figures.drift)) parts.push(`late error is ${say(figures.drift)} times the earlier one`);
  if (!saved) parts.push("no checkpoint is kept");
  else if (saved.error) parts.push(`the checkpoint could not be written: ${saved.error}`);
  else if (saved.samples !== null) parts.push(`checkpoint at sample ${count(saved.samples)}`);
  $("footer").textContent = parts.join(" · ");
}

document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = $("token").value.trim();
  sessionStorage.setItem("token", state.token);
  $("token").value = "";
  ask().catch(() => status("lost", "No answer from the server"));
});
document.querySelector(".choice").addEventListener("click", (event) => {
  if (!event.target.dataset.steps) return;
  state.steps = Number(event.target.dataset.steps);
  draw();
});
document.querySelector("details").addEventListener("toggle", table);
addEventListener("resize", () => state.reply && draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state.reply && draw());
poll();
