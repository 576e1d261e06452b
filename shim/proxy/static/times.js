// When the pieces of an answer were received.

const ms = (seconds) => `${(1000 * seconds).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

function drawTimes(times) {
  if (!times.length) return;
  const end = times.at(-1) || 1;
  const x = (seconds) => (1000 * seconds) / end;
  const gaps = times.slice(1).map((at, n) => at - times[n]);
  const longest = gaps.length ? Math.max(...gaps) : 0;
  const before = times[gaps.indexOf(longest)];
  $("picture").replaceChildren(
    shape("rect", { class: "wait", x: 0, y: 30, width: x(times[0]), height: 20 }),
    ...(longest ? [shape("rect", { class: "gap", x: x(before), y: 0, width: x(longest), height: 50 })] : []),
    shape("path", { d: times.map((at) => `M${x(at).toFixed(1)} 8V50`).join("") }),
  );
  const words = [`First token after ${times[0].toFixed(3)} s`, `${counted(times.length, "piece")} in ${end.toFixed(3)} s`];
  if (gaps.length) words.push(`gaps of ${ms(median(gaps))}, the longest (shaded) ${ms(longest)}`);
  $("times-text").textContent = `${words.join("; ")}.`;
  $("picture").setAttribute("aria-label", $("times-text").textContent);
  $("times").hidden = false;
}
