// The wire: what was received, what was sent for it, and the repairs between the two.

const MOST_ROWS = 5000;
const MOST_SHOWN = 500;
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

// Draws a wire: like events once, with their number.
class WireView {
  wire = null;
  groups = [];
  firstChanged = 0;
  frame = 0;
  isPaused = false;
  isGrouping = true;
  opened = new Set();

  constructor(list, scroll) {
    this.list = list;
    this.scroll = scroll;
  }

  show(wire) {
    this.wire = wire;
    this.opened.clear();
    this.redraw();
  }

  redraw() {
    this.changed(0);
  }

  changed(number) {
    this.firstChanged = Math.min(this.firstChanged, number);
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  pause(isPaused) {
    this.isPaused = isPaused;
    this.changed(this.wire?.rows.length ?? 0);
  }

  draw() {
    this.frame = 0;
    $("wire-empty").hidden = Boolean(this.wire?.rows.length);
    if (this.isPaused || !this.wire) return;
    const { scrollHeight, scrollTop, clientHeight } = this.scroll;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < 40;
    let from = this.firstChanged;
    while (this.groups.length && this.groups.at(-1).rows.at(-1).number >= from) from = this.drop(from);
    // The row before may be like this one now.
    if (this.groups.length) from = this.drop(from);
    this.firstChanged = Infinity;
    for (const rows of this.grouped(this.wire.rows.slice(from, MOST_ROWS))) this.append(rows);
    this.more?.remove();
    if (this.groups.length >= MOST_SHOWN || this.wire.rows.length > MOST_ROWS) {
      this.more = element("li", "note", "More was received than is shown. “Copy received” has all of it.");
      this.list.append(this.more);
    }
    if (isAtEnd) this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  drop(from) {
    const group = this.groups.pop();
    group.item.remove();
    return Math.min(from, group.rows[0].number);
  }

  * grouped(rows) {
    let group = [];
    let form = null;
    for (const row of rows) {
      const own = this.isGrouping ? row.formIn(this.wire.forms) : null;
      if (group.length && (own === null || own !== form)) {
        yield group;
        group = [];
      }
      form = own;
      group.push(row);
    }
    if (group.length) yield group;
  }

  append(rows) {
    if (this.groups.length >= MOST_SHOWN) return;
    const [row] = rows;
    const item = element("li", `${row.isExchange ? "exchange" : "event"} ${row.outcome.replaceAll(" ", "-")}`);
    item.append(this.titleOf(rows));
    const isOpen = rows.length > 1 && this.opened.has(row.number);
    for (const each of isOpen ? rows.slice(0, MOST_SHOWN) : [row]) item.append(sidesOf(each));
    this.groups.push({ rows, item });
    this.list.append(item);
  }

  titleOf(rows) {
    const [row] = rows;
    const line = element("p", "name");
    const numbers = rows.length > 1 ? `Events ${row.title} to ${rows.at(-1).title}` : `Event ${row.title}`;
    if (row.title) line.append(element("span", "title", row.isExchange ? row.title : numbers));
    if (rows.length > 1) {
      const isOpen = this.opened.has(row.number);
      const button = element("button", "quiet count", isOpen ? "Show one" : `${rows.length} alike`);
      button.type = "button";
      button.ariaExpanded = String(isOpen);
      button.title = isOpen ? "Show only the first of these events" : "Show each of these events";
      button.addEventListener("click", () => this.toggle(row));
      line.append(button);
    }
    line.append(...[...row.codes].sort().map(repairLink));
    return line;
  }

  toggle(row) {
    if (!this.opened.delete(row.number)) this.opened.add(row.number);
    this.changed(row.number);
  }
}

const OUTCOMES = {
  unchanged: "unchanged",
  "looked up": "asked by the shim, unseen by your program",
  waiting: "…",
  removed: "removed",
  "no response": "no response was received",
  replaced: "replaced by a later answer",
  "sent later": "sent later, in another event",
};

function sidesOf(row) {
  const sides = element("div", "sides");
  const received = element("div", "side received");
  const sent = element("div", "side sent");
  const text = row.sent.join("\n\n");
  const compare = row.isExchange ? differenceOfLines : difference;
  const { outcome } = row;
  if (outcome === "changed" && row.received) {
    const { removed, added } = compare(row.received, row.sent[0]);
    writeMarked(received, row.received, removed, "del");
    writeMarked(sent, text, [...added, ...(text.length > row.sent[0].length ? [[row.sent[0].length, text.length]] : [])], "ins");
  } else {
    received.append(outcome === "removed" ? element("del", "", row.received) : row.received);
    if (outcome === "changed") sent.append(text);
    else sent.append(element("span", "outcome", OUTCOMES[outcome]));
  }
  sides.append(received, sent);
  return sides;
}
