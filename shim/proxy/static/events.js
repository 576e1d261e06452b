// Splits a stream into events.

const WHOLE_LINE = /^\s*(?:data:\s*)*(?:\{.*\}|\[done\])\s*$/i;
const HAS_DATA = /^\s*(?:data\s*:(?!\s*\[done\])|[{[](?!done))/im;
const DONE = /\[done\]\s*$/i;

// Gives the complete events of a text that is received in pieces. A line that holds a whole object is one, framed or
// not: some services never send the empty line after it.
class Events {
  rest = "";
  block = "";

  take(text, isEnd = false) {
    const lines = (this.rest + text).split(/(?<=\n)/);
    this.rest = isEnd || lines.at(-1).endsWith("\n") || isObject(lines.at(-1)) ? "" : lines.pop();
    const events = [];
    for (const line of lines) {
      this.block += line;
      if (!line.trim() || WHOLE_LINE.test(line)) this.end(events);
    }
    if (isEnd) this.end(events);
    return events;
  }

  end(events) {
    if (this.block.trim()) events.push(this.block.trimEnd());
    this.block = "";
  }
}

function isObject(line) {
  return WHOLE_LINE.test(line) && payloadOf(line) !== null;
}

// The JSON object of an event; null if it has none.
function payloadOf(event) {
  try {
    const payload = JSON.parse(event.replace(/^\s*(?:data:\s*)*/, "").replace(/^data: ?/gm, ""));
    return payload && typeof payload === "object" ? payload : null;
  } catch {
    return null;
  }
}
