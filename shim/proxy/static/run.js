// One request of the page: reads what the proxy reports of it, and shows it.

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
    follow();
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
