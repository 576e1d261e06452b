// The conversation and the controls of the page.

const ADDRESS = new URL("v1", location.href).href;

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
