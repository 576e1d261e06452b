// Draws a wire: like events once, with their number.

const MOST_SHOWN = 500;

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
