// The repairs of an answer.

function listRepairs(repairs, { generation = null, isDone = false } = {}) {
  const codes = Object.keys(repairs).sort();
  $("repairs").replaceChildren(...codes.map((code) => {
    const term = element("dt");
    term.append(repairLink(code), element("span", "count", `${repairs[code]} ×`));
    const row = element("div");
    // Backquotes mark what stands on the wire.
    const words = RULES[code] ? [RULES[code].when, RULES[code].action].map((text) => text.replaceAll("`", "")) : [];
    row.append(term, ...words.map((text, at) => element("dd", at ? "action" : "", text)));
    return row;
  }));
  $("repairs-tab").replaceChildren("Repairs", ...(codes.length ? [" ", element("span", "badge plain", codes.length)] : []));
  const found = generation ? `The service answers as Foundry Local ${generation} does. ` : "";
  $("generation").className = codes.length ? "lead" : "empty";
  const nothing = isDone ? "Nothing had to be repaired." : "Nothing was repaired so far.";
  $("generation").textContent = found + (codes.length ? "" : nothing);
}
