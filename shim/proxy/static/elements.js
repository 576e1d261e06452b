"use strict";

const $ = (id) => document.getElementById(id);
const RULES = JSON.parse($("rules").textContent);

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function repairLink(code) {
  const link = element("a", "code", code);
  link.href = `repairs#${code}`;
  link.target = "_blank";
  link.rel = "noopener";
  link.title = RULES[code]?.when ?? "";
  return link;
}

// Where the page is not served from this machine, browsers have the clipboard with HTTPS only.
async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = element("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function makeCopying(button, text) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    try {
      await copyText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed by the browser";
    }
    setTimeout(() => { button.textContent = label; }, 1500);
  });
  return button;
}

function copyButton(text) {
  const button = element("button", "quiet", "Copy");
  button.type = "button";
  return makeCopying(button, text);
}

// The views: one is shown, and the arrow keys go from one to the next.
class Tabs {
  constructor(list) {
    this.tabs = [...list.children];
    list.addEventListener("click", ({ target }) => this.select(target.closest("[role=tab]")));
    list.addEventListener("keydown", (event) => {
      const at = this.tabs.indexOf(document.activeElement);
      const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      this.select(this.tabs.at(next % this.tabs.length));
      document.activeElement.blur();
      this.selected.focus();
    });
  }

  get selected() {
    return this.tabs.find((tab) => tab.ariaSelected === "true");
  }

  select(chosen) {
    if (!chosen) return;
    for (const tab of this.tabs) {
      tab.ariaSelected = String(tab === chosen);
      tab.tabIndex = tab === chosen ? 0 : -1;
      $(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    }
  }
}
