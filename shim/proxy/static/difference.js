// What is in one text and not in the other: by the fields of JSON, by lines otherwise.

const MOST_CELLS = 250000;
const TOKEN = /\s*(?:([{}[\],:])|("(?:[^"\\]|\\.)*")|([^\s"{}[\],:]+))/sy;

// The pairs of two lists, in the order of both, that have the highest score together.
function align(a, b, score) {
  if (a.length * b.length > MOST_CELLS) return a.slice(0, b.length).map((_, at) => [at, at]);
  const width = b.length + 1;
  const best = new Float64Array((a.length + 1) * width);
  const scores = new Float64Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const at = i * width + j;
      scores[at] = score(a[i], b[j]);
      const paired = scores[at] ? scores[at] + best[at + width + 1] : 0;
      best[at] = Math.max(paired, best[at + width], best[at + 1]);
    }
  }
  const pairs = [];
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    const at = i * width + j;
    // Of pairs that are as good, the last: what was buffered is sent with the event that ends the buffering.
    if (best[at] === best[at + width]) i++;
    else if (scores[at] && best[at] === scores[at] + best[at + width + 1]) pairs.push([i++, j++]);
    else j++;
  }
  return pairs;
}

// Reads JSON and keeps the place of each value in the text. Throws what is not JSON.
class JsonPlaces {
  constructor(text, at) {
    this.text = text;
    this.at = at;
  }

  peek() {
    TOKEN.lastIndex = this.at;
    const found = TOKEN.exec(this.text);
    if (!found) throw new SyntaxError("the end of the text");
    return { text: found[1] ?? found[2] ?? found[3], end: TOKEN.lastIndex };
  }

  next() {
    const token = this.peek();
    this.at = token.end;
    return { ...token, start: token.end - token.text.length };
  }

  value() {
    const token = this.next();
    if (token.text === "{") return this.parts(token.start, "}");
    if (token.text === "[") return this.parts(token.start, "]");
    JSON.parse(token.text);
    return { kind: "plain", start: token.start, end: token.end, form: token.text };
  }

  parts(start, closer) {
    const parts = [];
    while (this.peek().text !== closer) {
      if (parts.length && this.next().text !== ",") throw new SyntaxError("a comma is missing");
      parts.push(closer === "}" ? this.member() : this.item());
    }
    const { end } = this.next();
    const form = parts.map(({ name, value }) => (name === undefined ? "" : `${name}:`) + value.form).join();
    return { kind: closer, start, end, parts, form: `${closer}${form}${closer}` };
  }

  member() {
    const { text: name, start } = this.next();
    if (this.next().text !== ":") throw new SyntaxError("a colon is missing");
    const value = this.value();
    return { name, value, start, end: value.end };
  }

  item() {
    const value = this.value();
    return { value, start: value.start, end: value.end };
  }
}

// The places that were removed from one text and added to the other, as pairs of offsets.
function difference(received, sent) {
  if (received === sent) return { removed: [], added: [] };
  try {
    return differenceOfEvents(received, sent);
  } catch {
    return { removed: [[0, received.length]], added: [[0, sent.length]] };
  }
}

function differenceOfEvents(received, sent) {
  const marks = { removed: [], added: [] };
  const [a, b] = [received, sent].map((text) => new JsonPlaces(text, text.search(/[{[]/)).value());
  if (received.slice(0, a.start) !== sent.slice(0, b.start)) {
    marks.removed.push([0, a.start]);
    marks.added.push([0, b.start]);
  }
  compareValues(a, b, marks);
  if (received.slice(a.end).trim() !== sent.slice(b.end).trim()) {
    marks.removed.push([a.end, received.length]);
    marks.added.push([b.end, sent.length]);
  }
  return marks;
}

function compareValues(a, b, marks) {
  if (a.form === b.form) return;
  if (a.kind !== b.kind || a.kind === "plain") {
    marks.removed.push([a.start, a.end]);
    marks.added.push([b.start, b.end]);
    return;
  }
  const nameOf = (part, at) => part.name ?? at;
  const [ours, theirs] = [a, b].map(({ parts }) => new Map(parts.map((part, at) => [nameOf(part, at), part])));
  a.parts.forEach((part, at) => {
    const other = theirs.get(nameOf(part, at));
    if (other) compareValues(part.value, other.value, marks);
    else marks.removed.push(placeOf(a.parts, at));
  });
  b.parts.forEach((part, at) => {
    if (!ours.has(nameOf(part, at))) marks.added.push(placeOf(b.parts, at));
  });
}

// A field or item with one of the commas around it, so that what remains is valid.
function placeOf(parts, at) {
  if (at + 1 < parts.length) return [parts[at].start, parts[at + 1].start];
  return [at ? parts[at - 1].end : parts[at].start, parts[at].end];
}

function differenceOfLines(received, sent) {
  const [a, b] = [received, sent].map((text) => text.split(/(?<=\n)/));
  const pairs = align(a, b, (one, other) => Number(one.trim() === other.trim()));
  return { removed: unpaired(a, pairs.map(([at]) => at)), added: unpaired(b, pairs.map(([, at]) => at)) };
}

function unpaired(lines, paired) {
  const places = [];
  let at = 0;
  lines.forEach((line, number) => {
    if (!paired.includes(number)) places.push([at, at + line.trimEnd().length]);
    at += line.length;
  });
  return places;
}

// Writes a text with the places marked by elements of that name.
function writeMarked(side, text, places, name) {
  let at = 0;
  let last = null;
  for (const [start, end] of [...places].sort((one, other) => one[0] - other[0])) {
    if (end <= at) continue;
    const from = Math.max(start, at);
    // Places that touch are one: no gap is seen between fields that were removed together.
    if (from > at || !last) {
      side.append(text.slice(at, from));
      last = element(name);
      side.append(last);
    }
    last.textContent += text.slice(from, end);
    at = end;
  }
  side.append(text.slice(at));
}
