// "Without the shim": what the official client reads in the same bytes. All of it is computed in the proxy, by that client.

const WAYS = {
  create: ["Chunk by chunk", "chat.completions.create(stream=True)"],
  stream: ["With the stream helper", "chat.completions.stream()"],
};

function showComparison({ unavailable, client, readings }) {
  const place = $("comparison");
  if (unavailable) {
    place.replaceChildren(element("p", "empty", unavailable));
    return;
  }
  const lead = element("p", "lead", `${client} has read the answer twice: as it was received, and as the shim sent it.`);
  place.replaceChildren(lead, ...readings.map(sectionOf));
  const failures = readings.filter((reading) => reading.without.error && !reading.with.error).length;
  $("comparison-tab").replaceChildren("Without the shim", ...(failures ? [" ", element("span", "badge", "fails")] : []));
}

function forgetComparison() {
  $("comparison-tab").replaceChildren("Without the shim");
  $("comparison").replaceChildren(element("p", "empty waiting", "The comparison is made when the answer has ended."));
}

function missComparison() {
  const waiting = document.querySelector("#comparison .waiting");
  if (waiting) waiting.textContent = "Nothing to compare: the answer is not complete.";
}

function sectionOf(reading) {
  const [title, call] = WAYS[reading.way];
  const section = element("section", "reading");
  const heading = element("h3", "", title);
  heading.append(" ", element("code", "", call));
  const sides = element("div", "sides");
  sides.append(sideOf("Without the shim", reading.without), sideOf("With the shim", reading.with));
  section.append(heading, element("p", isWorse(reading) ? "verdict worse" : "verdict", verdictOf(reading)), sides);
  return section;
}

function isWorse({ without, with: repaired }) {
  return Boolean((without.error && !repaired.error) || differencesOf(without, repaired).length);
}

function verdictOf({ without, with: repaired }) {
  if (without.is_cut) return "The shim read no further, so nobody knows what the client would have read.";
  if (without.error && !repaired.error) return `Ends in an exception after ${counted(without.chunks, "chunk")}.`;
  const lost = differencesOf(without, repaired);
  if (lost.length) return `${lost.join(" ")}`;
  if (without.error) return kindOf(without.error) === kindOf(repaired.error) ? "The same exception." : "Another exception.";
  return "The same text, tool calls and finish reason. What was repaired is in fields that such a program does not read.";
}

function differencesOf(without, repaired) {
  return [
    without.text !== repaired.text && (without.text ? "The text differs." : "No text."),
    !isSame(without.calls, repaired.calls) && "The tool calls differ.",
    without.finish_reason !== repaired.finish_reason && (without.finish_reason ? "Another finish reason." : "No finish reason."),
  ].filter(Boolean);
}

const kindOf = (error) => error.split(":", 1)[0];

function isSame(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}

function sideOf(title, reading) {
  const side = element("div", "result");
  side.append(element("h4", "", title));
  if (reading.text) side.append(element("p", "read", reading.text));
  for (const call of reading.calls) side.append(element("pre", "", `${call.name}(${call.arguments})`));
  if (!reading.text && !reading.calls.length) side.append(element("p", "note", "No text and no tool call."));
  if (reading.error) side.append(element("p", "exception", reading.error));
  if (reading.is_cut) side.append(element("p", "note", "Not recorded any further."));
  const reason = reading.finish_reason ? `Finish reason ${reading.finish_reason}` : "No finish reason";
  side.append(element("p", "note", `${reason}, ${counted(reading.chunks, "chunk")}`));
  return side;
}

const counted = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
