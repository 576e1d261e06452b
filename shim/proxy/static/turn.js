// One prompt and its answer.

const ENDS = {
  stop: "The answer is complete.",
  length: "Stopped at the token limit.",
  tool_calls: "The model asked for a tool call.",
  content_filter: "Stopped by the content filter.",
};

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

// Keeps the end of the conversation in sight, unless somebody has scrolled up. Called once for each picture: it costs
// a layout. On a narrow screen the whole page scrolls, and what is below the conversation may be in sight instead.
const NEAR = 80;
let isAtEnd = true;

function follow(isForced = false) {
  const history = $("history");
  if (isForced) isAtEnd = true;
  if (!isAtEnd) return;
  history.scrollTop = history.scrollHeight;
  const { bottom } = history.getBoundingClientRect();
  if (bottom > innerHeight || (isForced && bottom < NEAR)) history.scrollIntoView({ block: "end" });
}

// Only an upward movement is somebody's: the text may have grown by more than a screen when the event is handled.
function watch(target, position, distance) {
  let last = 0;
  target.addEventListener("scroll", () => {
    const top = position();
    isAtEnd = distance() < NEAR || (isAtEnd && top >= last);
    last = top;
  });
}

watch(
  $("history"),
  () => $("history").scrollTop,
  () => $("history").scrollHeight - $("history").scrollTop - $("history").clientHeight,
);
watch(
  window,
  () => scrollY,
  () => $("history").getBoundingClientRect().bottom - innerHeight,
);
