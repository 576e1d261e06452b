// The conversation, and one run of it at a time.

const ADDRESS = new URL("v1", location.href).href;
const ENDS = {
  stop: "The answer is complete.",
  length: "Stopped at the token limit.",
  tool_calls: "The model asked for a tool call.",
  content_filter: "Stopped by the content filter.",
};

const tabs = new Tabs(document.querySelector("[role=tablist]"));
const view = new WireView($("wire"), $("wire-scroll"));
let running = null;
let messages = [];
let lastBody = null;

// What is asked.

function bodyOf(prompt) {
  const body = { model: $("model").value, messages: [...messages, { role: "user", content: prompt }] };
  if ($("temperature").value) body.temperature = $("temperature").valueAsNumber;
  if ($("limit").value) body.max_tokens = $("limit").valueAsNumber;
  return body;
}

function showRequest() {
  const prompt = $("prompt").value;
  const body = prompt.trim() || !lastBody ? bodyOf(prompt) : lastBody;
  const needsKey = !$("key-part").hidden;
  const which = body === lastBody ? "The last request" : "The request that is sent next";
  $("request-note").textContent = `${which}, to the repaired API.`;
  $("curl").textContent = curlOf(ADDRESS, body, needsKey);
  $("python").textContent = pythonOf(ADDRESS, body, needsKey);
}

function headers() {
  const key = $("key").value;
  return key ? { authorization: `Bearer ${key}` } : {};
}

// What goes wrong.

function fail(message) {
  $("error").textContent = message;
  $("error-part").hidden = false;
}

function forgetError() {
  $("error").textContent = "";
  $("error-part").hidden = true;
  $("retry").hidden = true;
}

async function refused(response) {
  const body = await response.json().catch(() => null);
  if (response.status === 401) {
    $("key-part").hidden = false;
    $("key").focus();
    showRequest();
  }
  return body?.error?.message ?? `The proxy answers with status ${response.status}.`;
}

async function loadModels() {
  const chosen = $("model").value;
  forgetError();
  try {
    const response = await fetch("v1/models", { headers: headers() });
    if (!response.ok) {
      const message = await refused(response);
      $("retry").hidden = response.status === 401;
      return fail(message);
    }
    const { data } = await response.json();
    $("model").replaceChildren(...data.map(({ id }) => new Option(id, id, false, id === chosen)));
    if (!data.length) failToLoad("The service has no models. Load one with `foundry model run <alias>`.");
  } catch (error) {
    failToLoad(`The models could not be read (${error.message}). Check that the proxy is still running.`);
  }
  showRequest();
}

function failToLoad(message) {
  fail(message);
  $("retry").hidden = false;
}

// When the pieces of an answer were received.

const ms = (seconds) => `${(1000 * seconds).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

function drawTimes(times) {
  if (!times.length) return;
  const end = times.at(-1) || 1;
  const x = (seconds) => (1000 * seconds) / end;
  const gaps = times.slice(1).map((at, n) => at - times[n]);
  const longest = gaps.length ? Math.max(...gaps) : 0;
  const before = times[gaps.indexOf(longest)];
  $("picture").replaceChildren(
    shape("rect", { class: "wait", x: 0, y: 30, width: x(times[0]), height: 20 }),
    ...(longest ? [shape("rect", { class: "gap", x: x(before), y: 0, width: x(longest), height: 50 })] : []),
    shape("path", { d: times.map((at) => `M${x(at).toFixed(1)} 8V50`).join("") }),
  );
  const words = [`First token after ${times[0].toFixed(3)} s`, `${counted(times.length, "piece")} in ${end.toFixed(3)} s`];
  if (gaps.length) words.push(`gaps of ${ms(median(gaps))}, the longest (shaded) ${ms(longest)}`);
  $("times-text").textContent = `${words.join("; ")}.`;
  $("picture").setAttribute("aria-label", $("times-text").textContent);
  $("times").hidden = false;
}

// The repairs of an answer.

function listRepairs(repairs, { generation = null, isDone = false } = {}) {
  const codes = Object.keys(repairs).sort();
  $("repairs").replaceChildren(...codes.map((code) => {
    const term = element("dt");
    term.append(repairLink(code), element("span", "count", `${repairs[code]} ×`));
    const row = element("div");
    // Backquotes mark what stands on the wire.
    const words = RULES[code] ? [RULES[code].when, RULES[code].action].map((text) => text.replaceAll("`", "")) : [];
    row.append(term, ...words.map((text, at) => element("dd", at ? "action" : "", text)));
    return row;
  }));
  $("repairs-tab").replaceChildren("Repairs", ...(codes.length ? [" ", element("span", "badge plain", codes.length)] : []));
  const found = generation ? `The service answers as Foundry Local ${generation} does. ` : "";
  $("generation").className = codes.length ? "lead" : "empty";
  const nothing = isDone ? "Nothing had to be repaired." : "Nothing was repaired so far.";
  $("generation").textContent = found + (codes.length ? "" : nothing);
}

// One prompt and its answer.

class Turn {
  reason = null;
  text = "";

  constructor(prompt) {
    this.prompt = prompt;
    this.item = element("article", "turn");
    this.answer = element("div", "answer");
    this.reasoning = element("div", "reasoning");
    this.reasoning.hidden = true;
    this.end = element("p", "row end-of-turn");
    this.item.append(element("p", "asked", prompt), this.reasoning, this.answer, this.end);
    this.answer.ariaBusy = "true";
    $("welcome").hidden = true;
    for (const failed of document.querySelectorAll(".turn.failed")) failed.remove();
    $("turns").append(this.item);
    follow(true);
  }

  add({ content, reasoning_content: thought }, reason) {
    if (thought) {
      this.reasoning.hidden = false;
      this.reasoning.append(thought);
    }
    if (content) {
      this.text += content;
      this.answer.append(content);
    }
    this.reason = reason ?? this.reason;
    if (content || thought) follow();
    return Boolean(content || thought);
  }

  // The turn is over; with an answer, it is kept as a part of the conversation.
  finish(isFailed) {
    this.answer.ariaBusy = "false";
    if (this.text) {
      this.end.append(copyButton(() => this.text));
      if (!isFailed) {
        messages.push({ role: "user", content: this.prompt }, { role: "assistant", content: this.text });
      }
    }
    this.item.classList.toggle("failed", isFailed);
    if ((isFailed || !this.text) && !$("prompt").value) $("prompt").value = this.prompt;
  }

  get ending() {
    if (this.reason === null) return "The stream ended without a finish reason.";
    return ENDS[this.reason] ?? `Ended: ${this.reason}.`;
  }
}

// Keeps the end of the conversation in sight, unless somebody has scrolled up.
function follow(isForced = false) {
  const history = $("history");
  const isAtEnd = history.scrollHeight - history.scrollTop - history.clientHeight < 80;
  if (isForced || isAtEnd) history.scrollTop = history.scrollHeight;
}

async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const all = (rest + value).split("\n");
    rest = all.pop();
    for (const line of all) yield JSON.parse(line);
  }
}

class Run {
  wire = new Wire(view);
  times = [];
  repairs = {};
  isDone = false;
  drawing = 0;

  constructor(turn) {
    this.turn = turn;
  }

  async ask(body) {
    const response = await fetch("./", {
      method: "POST",
      headers: { ...headers(), "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: running.signal,
    });
    if (!response.ok) return fail(await refused(response));
    for await (const line of lines(response)) this.take(line);
    if (!this.isDone) fail("The connection to the proxy broke in the middle of the answer. Check that it is still running.");
  }

  take(line) {
    if ("request" in line) this.wire.request(line.request);
    else if ("response" in line) this.wire.response(line.response, line.headers);
    else if ("received" in line) this.wire.received(line.received);
    else if ("repair" in line) this.repaired(line);
    else if ("status" in line) this.wire.status(line.status, line.headers);
    else if ("sent" in line) for (const event of this.wire.sent(line.sent)) this.read(event, line.at);
    else if ("error" in line) fail(line.error.message);
    else if ("comparison" in line) showComparison(line.comparison);
    else if (line.done) this.done(line);
  }

  repaired({ repair, event }) {
    this.repairs[repair] = (this.repairs[repair] ?? 0) + 1;
    this.wire.repaired(repair, event);
    this.later();
  }

  read(event, at) {
    const payload = payloadOf(event);
    if (!payload) return;
    if (payload.error) fail(payload.error.message ?? JSON.stringify(payload.error));
    const choice = payload.choices?.[0];
    if (!choice || !this.turn.add(choice.delta ?? {}, choice.finish_reason)) return;
    this.times.push(at);
    $("state").textContent = "Streaming…";
    this.later();
  }

  later() {
    this.drawing ||= requestAnimationFrame(() => this.draw());
  }

  draw(end) {
    this.drawing = 0;
    drawTimes(this.times);
    listRepairs(this.repairs, end);
  }

  done({ repairs, generation }) {
    this.isDone = true;
    for (const event of this.wire.end()) this.read(event, this.times.at(-1) ?? 0);
    this.repairs = repairs;
    cancelAnimationFrame(this.drawing);
    this.draw({ generation, isDone: true });
  }
}

async function send() {
  if (running || !$("form").reportValidity()) return;
  running = new AbortController();
  const prompt = $("prompt").value;
  const body = (lastBody = bodyOf(prompt));
  const turn = new Turn(prompt);
  $("prompt").value = "";
  forgetError();
  forgetComparison();
  listRepairs({});
  $("times").hidden = true;
  $("send").disabled = true;
  $("stop").disabled = false;
  $("state").textContent = "Waiting for the first token…";
  showRequest();
  let isStopped = false;
  try {
    await new Run(turn).ask(body);
  } catch (error) {
    isStopped = running.signal.aborted;
    if (!isStopped) fail(`The proxy does not answer (${error.message}). Check that it is still running.`);
  }
  const isFailed = !$("error-part").hidden;
  turn.finish(isFailed);
  $("state").textContent = isFailed ? "" : isStopped ? "Stopped." : turn.ending;
  if (document.activeElement === $("stop")) $("prompt").focus();
  running = null;
  $("new").hidden = false;
  $("send").disabled = false;
  $("stop").disabled = true;
  missComparison();
  follow(isFailed);
  showRequest();
}

function beginAnew() {
  running?.abort();
  messages = [];
  for (const turn of document.querySelectorAll(".turn")) turn.remove();
  for (const id of ["times", "new"]) $(id).hidden = true;
  $("welcome").hidden = false;
  $("state").textContent = "";
  forgetError();
  $("prompt").focus();
  showRequest();
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("form").addEventListener("input", showRequest);
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) running?.abort();
});
$("stop").addEventListener("click", () => running?.abort());
$("new").addEventListener("click", beginAnew);
$("key").addEventListener("change", loadModels);
$("retry").addEventListener("click", loadModels);
$("turns").addEventListener("click", ({ target }) => {
  if (!target.classList.contains("example")) return;
  $("prompt").value = target.textContent;
  $("prompt").focus();
  showRequest();
});
$("changed-only").addEventListener("change", ({ target }) => $("wire").classList.toggle("changed-only", target.checked));
$("group").addEventListener("change", ({ target }) => {
  view.isGrouping = target.checked;
  view.redraw();
});
$("pause").addEventListener("click", ({ target }) => {
  view.pause(!view.isPaused);
  target.ariaPressed = String(view.isPaused);
  target.textContent = view.isPaused ? "Continue" : "Pause";
});
makeCopying($("copy-address"), () => ADDRESS);
makeCopying($("copy-received"), () => view.wire?.texts.received.join("") ?? "");
makeCopying($("copy-sent"), () => view.wire?.texts.sent.join("") ?? "");
makeCopying($("copy-curl"), () => $("curl").textContent);
makeCopying($("copy-python"), () => $("python").textContent);
$("address").textContent = ADDRESS;
fetch("healthz").then((response) => response.json()).then(({ upstream }) => {
  if (upstream) $("upstream").textContent = `Service ${upstream}`;
}).catch(() => {});
loadModels();
