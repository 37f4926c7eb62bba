// Further parts of a schedule: what fills its database, its chains with their holes, its drills.
// Uses el(), clock(), span(), number(), bytes(), moment() of page.js.

const table = (label, head, numbers, rows) => el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
  el("table", {}, el("thead", {}, el("tr", {}, head.map((word) => el("th", { scope: "col", class: numbers.includes(word) ? "number" : null }, word)))), el("tbody", {}, rows)));
const count = (value) => el("td", { class: "number" }, number(value));
const many = (value, one, more) => number(value) + " " + (value === 1 ? one : more);

// Kinds of objects by the bytes of their rows: a bar is a share of the whole. The smallest are added up.
function filling(schedule) {
  const fills = schedule.fills;
  if (!fills || !fills.shares.length) return [];
  const named = fills.shares.filter((share) => share.prefix), total = fills.shares.reduce((sum, share) => sum + share.bytes, 0) || 1;
  const shown = named.slice(0, 10), rest = [...named.slice(10), ...fills.shares.filter((share) => !share.prefix)];
  const sum = (field) => rest.reduce((all, share) => all + share[field], 0);
  if (rest.length) shown.push({ prefix: "", keys: sum("keys"), rows: sum("rows"), bytes: sum("bytes") });
  const rows = shown.map((share) => {
    const part = 100 * share.bytes / total, words = part < 0.1 ? "under 0.1 %" : part.toFixed(1) + " %";
    return el("tr", {}, el("th", { scope: "row", class: "mono" }, share.prefix || "all others"),
      el("td", { class: "bar-cell" }, el("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img", "aria-label": words, class: "share" }, el("rect", { class: "part", x: 0, y: 0, width: part.toFixed(2), height: 8 }))),
      el("td", { class: "number" }, words), el("td", { class: "number" }, bytes(share.bytes)), count(share.keys), count(share.rows));
  });
  return [el("h3", {}, "What fills the database"), table("What fills the database of " + schedule.name, ["Keys below", "", "Share", "Bytes", "Keys", "Rows"], ["Share", "Bytes", "Keys", "Rows"], rows),
    el("p", { class: "legend plain" }, "From the row proof of ", el("span", { class: "mono" }, fills.backup), ", ", moment(fills.time), ". Rows beyond the keys are older versions, which a compaction frees.")];
}

function chainsOf(schedule) {
  const chains = schedule.chains || [], holes = schedule.holes || [];
  if (!chains.length) return [];
  const rows = chains.map((chain) => el("tr", {}, el("td", { class: "mono" }, chain.base), el("td", { class: "number" }, String(chain.increments)),
    el("td", {}, clock(chain.from), chain.increments ? [" to ", clock(chain.to)] : ""), el("td", {}, number(chain.first) + (chain.increments ? " to " + number(chain.last) : "")),
    el("td", {}, el("span", { class: "tag " + (chain.level === "Stored" ? "warn" : "good") }, chain.level)), el("td", { class: "number" }, bytes(chain.storedSize)),
    el("td", {}, chain.cutOff ? el("span", { class: "tag bad" }, many(chain.cutOff, "increment", "increments") + " cut off") : "whole")));
  return [el("h3", {}, "Chains"), table("Chains of " + schedule.name, ["Full backup", "Increments", "Any moment from", "Revisions", "Level", "Stored", "State"], ["Increments", "Stored"], rows),
    ...(holes.length ? [el("ul", { class: "holes" }, holes.map((hole) => el("li", {}, el("span", { class: "tag bad" }, "Hole of " + span(Date.parse(hole.to) - Date.parse(hole.from))), " ", hole.what)))]
      : [el("p", { class: "legend plain" }, chains.length > 1 ? "No hole between them." : "No hole.")])];
}

function drillsOf(schedule) {
  const drills = schedule.drills || [];
  if (!drills.length && !schedule.nextDrill) return [];
  const rows = drills.map((drill) => el("tr", {}, el("td", {}, clock(drill.ended), " · ", moment(drill.ended)), el("td", { class: "number" }, span(Date.parse(drill.ended) - Date.parse(drill.begun))),
    el("td", {}, el("span", { class: "tag " + (drill.problem ? "bad" : "good") }, drill.problem ? "Failed" : drill.level)), el("td", { class: "mono" }, drill.backup || "–"), el("td", { class: "words" }, drill.problem || "restored and compared")));
  const next = schedule.nextDrill ? el("p", { class: "legend plain" }, "The next drill is due ", moment(schedule.nextDrill), ", at " + clock(schedule.nextDrill) + ".") : null;
  return [el("h3", {}, "Restore drills"), ...(rows.length ? [table("Drills of " + schedule.name, ["Ended", "Took", "Outcome", "Newest backup", "In words"], ["Took"], rows)] : [el("p", { class: "quiet" }, "None yet.")]), ...(next ? [next] : [])];
}
