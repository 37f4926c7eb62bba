"use strict";
// Draws /status.json and asks for it again and again, in brief; of schedules that are open, for the whole. All text enters the page as
// text, never as markup.
const SOON = 5000, HIDDEN = 30000, AT_ONCE = 200;
const byId = (id) => document.getElementById(id);
const cards = new Map();
let skew = 0, lastAnswer = 0, timer = 0, shown = AT_ONCE;

function el(tag, attributes, ...children) {
  const svg = ["svg", "path", "line", "circle", "rect", "text", "g", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) if (value !== null && value !== undefined) node.setAttribute(name, value);
  for (const child of children.flat()) if (child !== null && child !== undefined && child !== "") node.append(child);
  return node;
}

const now = () => Date.now() + skew;

function span(ms) {
  const total = Math.floor(Math.abs(ms) / 1000);
  const parts = [[Math.floor(total / 86400), "d"], [Math.floor(total / 3600) % 24, "h"], [Math.floor(total / 60) % 60, "m"], [total % 60, "s"]];
  let first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0s";
  return parts.slice(first, first + 2).filter(([count], place) => place === 0 || count > 0).map(([count, unit]) => count + unit).join(" ");
}

function relative(iso) {
  const distance = now() - Date.parse(iso);
  if (Math.abs(distance) < 1000) return "now";
  return distance < 0 ? "in " + span(distance) : span(distance) + " ago";
}

const clock = (iso) => new Date(iso).toLocaleString(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

// A moment, relative, kept fresh by tick(); its date is in the tooltip.
function moment(iso) {
  return el("time", { datetime: iso, title: new Date(iso).toISOString() }, relative(iso));
}

function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (count >= 1024 && place < units.length - 1) { count /= 1024; place += 1; }
  return (place === 0 || count >= 100 ? Math.round(count) : count.toFixed(1)) + " " + units[place];
}

const number = (count) => Math.round(count).toLocaleString("en");
const upper = (text) => (text ? text[0].toUpperCase() + text.slice(1) : "");

function stateOf(schedule) {
  if (schedule.status.phase === "Suspended") return ["Suspended", "quiet", "idle"];
  return schedule.protected ? ["Protected", "good", ""] : ["Not protected", "bad", "bad"];
}

// What a schedule's card says above its fold.
function head(schedule) {
  const status = schedule.status, word = stateOf(schedule);
  const lines = [el("p", {}, upper(schedule.protection))];
  if (status.recoverableTo) {
    lines.push(el("p", { class: "facts" }, "Recoverable from ", status.recoverableFrom ? el("b", {}, clock(status.recoverableFrom)) : "its first backup", " to ", el("b", {}, clock(status.recoverableTo)), " (", moment(status.recoverableTo), ")."));
  } else {
    lines.push(el("p", { class: "facts" }, "Nothing can be restored yet."));
  }
  if (status.nextBackupTime) {
    const due = Date.parse(status.nextBackupTime) <= now();
    lines.push(el("p", { class: "facts" }, due ? "The next backup is " : "Next backup ", due ? el("b", {}, "due now") : el("b", {}, moment(status.nextBackupTime)), due ? ", since " : " at ", clock(status.nextBackupTime), schedule.why ? ", decided by " + schedule.why : "", "."));
  }
  return [el("p", { class: "name" }, schedule.namespace + "/" + schedule.name,
    el("span", { class: "tag " + word[1] }, word[0]),
    schedule.running ? el("span", { class: "tag" }, "running: " + schedule.running) : null,
    el("span", { class: "tag quiet" }, schedule.schedule),
    schedule.aiEnabled ? el("span", { class: "tag quiet" }, "adaptive") : null), ...lines];
}

// A card: its head, drawn anew when it changes, and a fold that stays as somebody left it.
function card(schedule, few) {
  const body = el("div"), fold = el("details", { open: few ? "" : null }, el("summary", {}, "History, decision and size"), body);
  const entry = { name: schedule.name, namespace: schedule.namespace, text: "", whole: "", busy: false, fold, body, node: el("article", { "aria-label": schedule.namespace + "/" + schedule.name }, fold) };
  fold.addEventListener("toggle", () => { if (fold.open) unfold(entry); });
  return entry;
}

function redraw(entry, schedule) {
  entry.node.className = "card " + stateOf(schedule)[2];
  while (entry.node.firstChild !== entry.fold) entry.node.firstChild.remove();
  entry.fold.before(...head(schedule));
}

// Asks for the whole of a schedule that is open, and draws it when it changed.
async function unfold(entry) {
  if (entry.busy) return;
  entry.busy = true;
  try {
    const answer = await fetch("schedule.json?" + new URLSearchParams({ namespace: entry.namespace, name: entry.name }), { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(String(answer.status));
    const text = await answer.text();
    if (text === entry.whole) return;
    entry.whole = text;
    entry.body.replaceChildren(...inside(JSON.parse(text)));
  } catch (error) {
    if (!entry.whole) entry.body.replaceChildren(el("p", { class: "quiet" }, "No answer yet (" + error.message + "), asking again."));
  }
  entry.busy = false;
}

function inside(schedule) {
  const status = schedule.status, decision = status.decision || {}, parts = [];
  const drawing = chart(schedule), bars = sizes(schedule);
  if (drawing) parts.push(el("h3", {}, (schedule.rates || []).length > 1 ? "Change rate, backups, changes at risk" : "Backups over time"), drawing);
  if ((decision.reasons || []).length) {
    parts.push(el("h3", {}, "Why then"), el("ul", {}, decision.reasons.map((reason) => el("li", {}, reason))));
  }
  const facts = [];
  if (decision.exposure) facts.push(["Changes at risk", number(decision.exposure) + (decision.budget ? ", " + number(decision.budget) + " are worth a backup" : "")]);
  if (decision.intervalSeconds) facts.push(["Interval in force", span(decision.intervalSeconds * 1000)]);
  if (decision.savedPercent !== undefined) facts.push(["Saved against the cron", decision.savedPercent + " % of backups" + (decision.exposureRatioPercent !== undefined ? " at " + decision.exposureRatioPercent + " % of its exposure" : "")]);
  const week = lastWeek(schedule);
  if (week) facts.push(["Last 7 days", week]);
  if (schedule.dbSize) facts.push(["Database", bytes(schedule.dbSize)]);
  if (schedule.revision) facts.push(["Revision", number(schedule.revision)]);
  if (schedule.signal) facts.push(["Signals", schedule.signal]);
  for (const warning of schedule.signalWarnings || []) facts.push(["Signals", warning]);
  if (facts.length) {
    parts.push(el("h3", {}, "Now"), el("table", {}, el("tbody", {}, facts.map(([label, value]) => el("tr", {}, el("th", { scope: "row" }, label), el("td", { class: "words" }, value))))));
  }
  if (bars) parts.push(el("h3", {}, "Sizes"), bars);
  parts.push(...filling(schedule), ...chainsOf(schedule), ...drillsOf(schedule));
  parts.push(el("h3", {}, "Backups"), history(schedule));
  return parts;
}

// What came of the last seven days' backups, in a sentence.
function lastWeek(schedule) {
  const first = new Date(now() - 7 * 86400000).toISOString().slice(0, 10), levels = {};
  let failed = 0, taken = 0;
  for (const day of (schedule.days || []).filter((one) => one.day > first)) {
    failed += day.failed;
    for (const [level, count] of Object.entries(day.levels)) { levels[level] = (levels[level] || 0) + count; taken += count; }
  }
  if (!taken && !failed) return "";
  return taken + (taken === 1 ? " backup" : " backups") + (taken ? ": " + Object.entries(levels).map(([level, count]) => count + " " + (LEVELS[level] || level)).join(", ") : "") + "; " + (failed ? failed + " failed" : "none failed");
}

function rowsOf(schedule) {
  if ((schedule.backups || []).length) return schedule.backups;
  return [...(schedule.status.backupHistory || [])].map((entry) => ({ id: entry.name, time: entry.creationTimestamp, level: entry.status === "Completed" ? "Completed" : "", error: entry.status === "Failed" ? "failed" : undefined }))
    .sort((a, b) => Date.parse(b.time) - Date.parse(a.time));
}

function history(schedule) {
  const rows = rowsOf(schedule);
  if (!rows.length) return el("p", { class: "quiet" }, "None yet.");
  const full = (schedule.backups || []).length > 0;
  const head = full ? ["When", "Level", "Kind", "Revision", "Size", "Stored", "Took", "Id"] : ["When", "Level", "Id"];
  const numbers = ["Revision", "Size", "Stored", "Took"];
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Backups of " + schedule.name },
    el("table", {},
      el("thead", {}, el("tr", {}, head.map((word) => el("th", { scope: "col", class: numbers.includes(word) ? "number" : null }, word)))),
      el("tbody", {}, rows.map((row) => {
        const when = el("td", {}, row.time ? [clock(row.time), " · ", moment(row.time)] : "–");
        if (row.error) return el("tr", {}, when, el("td", {}, el("span", { class: "tag bad" }, "Failed")), el("td", { class: "words", colspan: String(head.length - 2) }, row.error === "failed" ? row.id : row.error));
        const level = el("td", {}, el("span", { class: "tag " + (row.level === "Stored" ? "warn" : "good") }, row.level || "–"));
        if (!full) return el("tr", {}, when, level, el("td", { class: "mono" }, row.id));
        return el("tr", {}, when, level, el("td", {}, row.kind),
          el("td", { class: "number" }, number(row.revision)), el("td", { class: "number" }, bytes(row.size)), el("td", { class: "number" }, bytes(row.storedSize)),
          el("td", { class: "number" }, row.durationSeconds === undefined ? "–" : seconds(row.durationSeconds)),
          el("td", { class: "mono" }, row.id));
      }))));
}

function fill(section, title, nodes) {
  section.hidden = nodes.length === 0;
  section.replaceChildren(...(nodes.length ? [el("h2", {}, title), ...nodes] : []));
}

function drawSchedules(schedules) {
  const words = byId("filter").value.trim().toLowerCase();
  const rank = (schedule) => (schedule.status.phase === "Suspended" ? 2 : schedule.protected ? 1 : 0);
  const wanted = schedules
    .filter((schedule) => !words || (schedule.namespace + "/" + schedule.name + " " + stateOf(schedule)[0]).toLowerCase().includes(words))
    .sort((a, b) => rank(a) - rank(b) || (a.namespace + "/" + a.name).localeCompare(b.namespace + "/" + b.name));
  byId("filter-box").hidden = schedules.length < 6;
  const place = byId("schedules"), nodes = [], kept = new Set();
  for (const schedule of wanted.slice(0, shown)) {
    const key = schedule.namespace + "/" + schedule.name, text = JSON.stringify(schedule);
    let entry = cards.get(key);
    if (!entry) cards.set(key, entry = card(schedule, schedules.length < 3));
    if (entry.text !== text) {
      entry.text = text;
      redraw(entry, schedule);
    }
    kept.add(key);
    nodes.push(entry.node);
  }
  for (const key of [...cards.keys()]) if (!kept.has(key)) cards.delete(key);
  if (!schedules.length) nodes.push(el("p", { class: "note" }, "No schedule is known: put an EtcdBackupSchedule into the manifests folder, or apply one."));
  else if (!wanted.length) nodes.push(el("p", { class: "quiet" }, "Nothing matches the filter."));
  if (wanted.length > shown) {
    const more = el("button", { type: "button" }, "Show " + (wanted.length - shown) + " more");
    more.addEventListener("click", () => { shown = Infinity; drawSchedules(schedules); });
    nodes.push(more);
  }
  const same = nodes.length === place.childNodes.length && nodes.every((node, index) => node === place.childNodes[index]);
  const focused = document.activeElement;
  if (!same) place.replaceChildren(...nodes);
  // What is put elsewhere loses the focus.
  if (place.contains(focused) && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

// Folded, and drawn anew only when it changes: what somebody opened stays open.
let pastDrawn = "";
function drawPast(past) {
  const text = JSON.stringify(past);
  if (text === pastDrawn) return;
  pastDrawn = text;
  const section = byId("past"), open = section.querySelector("details") && section.querySelector("details").open;
  const rows = past.map((alert) => el("tr", {},
    el("td", {}, clock(alert.ended), " · ", moment(alert.ended)), el("td", { class: "number" }, alert.since ? span(Date.parse(alert.ended) - Date.parse(alert.since)) : "–"),
    el("td", {}, el("span", { class: "tag " + (alert.severity === "critical" ? "bad" : alert.severity === "info" ? "" : "warn") }, alert.severity)),
    el("td", {}, alert.kind + " · " + alert.subject), el("td", { class: "words" }, alert.what), el("td", {}, alert.told ? "told" : "nobody told")));
  fill(section, "Alerts that are over", rows.length ? [el("details", { open: open ? "" : null }, el("summary", {}, rows.length === 1 ? "1 alert" : rows.length + " alerts, the newest first"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Alerts that are over" }, el("table", {},
      el("thead", {}, el("tr", {}, ["Ended", "Lasted", "Severity", "What", "In words", "Told"].map((word) => el("th", { scope: "col", class: word === "Lasted" ? "number" : null }, word)))),
      el("tbody", {}, rows))))] : []);
}

let latest = null;

function draw(status) {
  latest = status;
  const verdict = byId("verdict"), { words, protected: safe } = status.verdict;
  if (verdict.textContent !== words) verdict.textContent = words;
  verdict.className = safe ? "good" : "bad";
  document.title = (safe ? "✓ " : "✗ ") + words + " · etcdguardian";
  byId("cluster").textContent = status.cluster ? "· " + status.cluster : "";
  fill(byId("alerts"), "Alerts", status.alerts.map((alert) => el("div", { class: "note " + (alert.severity === "critical" ? "bad" : alert.severity === "info" ? "info" : "") },
    el("b", {}, alert.kind + " · " + alert.subject), " ", el("span", { class: "quiet" }, alert.severity, alert.since ? [", since ", clock(alert.since), " (", moment(alert.since), ")"] : "", alert.told ? [", told ", moment(alert.told)] : ", nobody told yet"),
    el("p", {}, alert.what), alert.nextStep ? el("code", { class: "step" }, alert.nextStep) : null)));
  fill(byId("problems"), "Problems", status.problems.map((problem) => el("p", { class: "note" }, problem)));
  drawSchedules(status.schedules);
  fill(byId("stores"), "Stores", status.stores.map((store) => el("div", { class: "row" },
    el("span", { class: "tag " + (store.reachable ? "good" : "bad") }, store.reachable ? "reachable" : "unreachable"), el("span", { class: "mono" }, store.url),
    store.checked ? el("span", { class: "quiet" }, "asked ", moment(store.checked)) : null, store.error ? el("span", { class: "error" }, store.error) : null)));
  fill(byId("channels"), "Alert channels", status.channels.map((channel) => el("div", { class: "row" },
    el("span", { class: "tag " + (channel.error ? "bad" : channel.lastDelivered ? "good" : "quiet") }, channel.error ? "down" : channel.lastDelivered ? "works" : "unused"), el("span", {}, channel.name),
    channel.lastDelivered ? el("span", { class: "quiet" }, "delivered ", moment(channel.lastDelivered)) : null, channel.error ? el("span", { class: "error" }, channel.error) : null)));
  drawPast(status.pastAlerts || []);
  byId("about").replaceChildren("etcdguardian " + status.version, ...(status.started ? [", started ", moment(status.started)] : []));
}

function tick() {
  for (const time of document.querySelectorAll("time")) time.textContent = relative(time.dateTime);
  const contact = byId("contact"), silent = now() - lastAnswer;
  const lost = lastAnswer > 0 && silent > 4 * SOON && !document.hidden;
  contact.className = lost ? "lost" : "";
  if (lost) contact.textContent = "No answer for " + span(silent) + ": what you see is old. Is etcdguardian running?";
  else if (latest && latest.now) contact.textContent = "As of " + relative(latest.now);
}

async function ask() {
  clearTimeout(timer);
  try {
    const answer = await fetch("status.json?schedules=brief", { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(String(answer.status));
    const date = Date.parse(answer.headers.get("date"));
    // The header has whole seconds; a smaller difference is not one.
    if (!Number.isNaN(date) && Math.abs(date - Date.now()) > 2000) skew = date - Date.now();
    draw(await answer.json());
    lastAnswer = now();
    await Promise.all([...cards.values()].filter((entry) => entry.fold.open).map(unfold));
  } catch (error) {
    if (!latest) byId("contact").textContent = "No answer yet (" + error.message + "), asking again.";
  }
  tick();
  timer = setTimeout(ask, document.hidden ? HIDDEN : SOON);
}

byId("filter").addEventListener("input", () => latest && drawSchedules(latest.schedules));
document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
setInterval(tick, 1000);
ask();
