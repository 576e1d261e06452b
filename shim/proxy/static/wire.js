// The wire: what was received, what was sent for it, and the repairs between the two.

const MOST_ROWS = 5000;
const MOST_COPIED = 16 * 2 ** 20;

// How surely an event that was sent stands for one that was received; 0 if it cannot.
function likeness(row, event) {
  if (row.received === event) return 8;
  const areEnds = [row.received, event].map((text) => DONE.test(text));
  if (areEnds[0] || areEnds[1]) return areEnds[0] && areEnds[1] ? 6 : 0;
  const [one, other] = [row.payload, payloadOf(event)];
  if (!one || !other) return 0;
  const [text, otherText] = [one, other].map(({ choices }) => choices?.[0]?.delta?.content);
  if (text && text === otherText) return 4;
  return one.choices?.length === other.choices?.length ? 2 : 1;
}

// The form of an event: its fields, without the strings and numbers that differ in like ones.
function formOf(text) {
  return text.replace(/("(?:[^"\\]|\\.)*")(\s*:)?|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?/gi, (whole, string, colon) => {
    if (string) return colon ? whole : '""';
    return "0";
  });
}

// One event that was received, or one exchange with the service.
class Row {
  codes = new Set();
  received = "";
  sent = [];
  // Whether a later event was sent already, or the stream has ended: nothing is sent for this one any more.
  isPassed = false;
  isLookUp = false;
  form = null;

  constructor(title, isExchange) {
    this.title = title;
    this.isExchange = isExchange;
  }

  get payload() {
    return (this.read ??= { payload: payloadOf(this.received) }).payload;
  }

  get outcome() {
    if (this.sent.length) return this.received === this.sent[0] && this.sent.length === 1 ? "unchanged" : "changed";
    if (this.isLookUp) return "looked up";
    if (!this.isPassed) return "waiting";
    if (this.isExchange) return this.received ? "replaced" : "no response";
    return this.hasContent ? "sent later" : "removed";
  }

  get hasContent() {
    const parts = (this.payload?.choices ?? []).map?.((choice) => choice?.delta ?? choice?.message ?? {}) ?? [];
    return parts.some((part) => part.content || part.reasoning_content || part.tool_calls?.length);
  }

  // The same number for like events of a wire; null for what is like nothing else.
  formIn(numbers) {
    if (this.isExchange || !this.received) return null;
    if (this.form === null) {
      const text = [this.outcome, this.received, ...this.sent].map(formOf).join("\n") + [...this.codes].sort().join();
      if (!numbers.has(text)) numbers.set(text, numbers.size);
      this.form = numbers.get(text);
    }
    return this.form;
  }
}

class Wire {
  rows = [];
  head = null;
  prompt = null;
  nameless = [];
  out = new Events();
  forms = new Map();
  texts = { received: [], sent: [], size: 0 };

  constructor(view) {
    this.view = view;
    view.show(this);
    this.begin();
  }

  begin() {
    this.in = new Events();
    this.numbered = [];
    this.waiting = [];
  }

  add(title, isExchange) {
    this.last = new Row(title, isExchange);
    this.last.number = this.rows.push(this.last) - 1;
    return this.last;
  }

  changed(row) {
    row.form = null;
    this.view.changed(row.number);
  }

  keep(side, text) {
    this.texts.size += text.length;
    if (this.texts.size <= MOST_COPIED) this.texts[side].push(text);
  }

  request(what) {
    this.flush();
    this.begin();
    this.head = this.add(what, true);
    if (what.startsWith("POST")) this.prompt = this.head;
    this.head.isLookUp = this.head !== this.prompt;
    for (const code of this.nameless.splice(0)) this.head.codes.add(code);
    this.changed(this.head);
  }

  response(status, headers) {
    this.head.received = headOf(status, headers);
    this.changed(this.head);
  }

  // The head of what the shim sends.
  status(status, headers) {
    // A plain answer was received whole before anything is sent. What was looked up since is another exchange.
    if (!headers.some(([name, value]) => name === "content-type" && value.startsWith("text/event-stream"))) this.flush();
    const row = this.head === this.prompt ? this.head : this.add("Answer to the prompt", true);
    if (row !== this.head) this.waiting = [];
    row.sent = [headOf(status, headers)];
    this.changed(row);
  }

  flush() {
    this.received("", true);
  }

  received(text, isEnd = false) {
    this.keep("received", text);
    for (const event of this.in.take(text, isEnd)) {
      const isNumbered = this.head === this.prompt && HAS_DATA.test(event);
      const row = this.add(isNumbered ? this.numbered.length + 1 : "", false);
      row.received = event;
      row.isLookUp = this.head !== this.prompt;
      this.waiting.push(row);
      if (isNumbered) this.numbered.push(row);
      this.changed(row);
    }
  }

  repaired(code, number) {
    const row = number ? this.numbered[number - 1] ?? this.last : this.prompt;
    if (!row) {
      this.nameless.push(code);
      return;
    }
    row.codes.add(code);
    this.changed(row);
  }

  // Returns the events. They stand beside what was received since the last ones, in its order.
  sent(text, isEnd = false) {
    this.keep("sent", text);
    const events = this.out.take(text, isEnd);
    if (!events.length) return events;
    const rows = this.waiting;
    this.waiting = [];
    const pairs = new Map(align(rows, events, likeness).map(([row, event]) => [event, rows[row]]));
    let row = pairs.values().next().value ?? rows.at(-1) ?? this.last;
    events.forEach((event, at) => {
      row = pairs.get(at) ?? row;
      row.sent.push(event);
      this.changed(row);
    });
    this.pass(rows);
    return events;
  }

  // Nothing is received or sent any more.
  end() {
    this.flush();
    const events = this.sent("", true);
    this.pass(this.rows);
    return events;
  }

  pass(rows) {
    for (const row of rows) {
      row.isPassed = true;
      this.changed(row);
    }
  }
}

const headOf = (status, headers) => [status, ...headers.map(([name, value]) => `${name}: ${value}`)].join("\n");
