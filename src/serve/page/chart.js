// A schedule's history as pictures: change rate with the forecast, the backups of both schedules, the changes at risk; and sizes.
// Uses el(), clock(), span(), number(), bytes(), now() and rowsOf() of page.js.

const LEVELS = { Stored: "stored, not proved", Verified: "verified", Consistent: "consistent", Drilled: "drilled", Completed: "completed" };
const short = (value) => (value >= 1e6 ? (value / 1e6).toPrecision(2) + "M" : value >= 1e4 ? Math.round(value / 1e3) + "k" : value >= 10 ? number(value) : value.toPrecision(2));

// The width that fits the page now, so that text keeps its size on a phone.
const room = () => Math.max(300, Math.min(960, byId("schedules").clientWidth - 60));

// The changes since the last good backup at every step of the rates: sums of what etcd did, restarted at each backup.
function atRisk(rates, backups) {
  const marks = backups.map((row) => Date.parse(row.time)).sort((a, b) => a - b), points = [];
  let next = 0, sum = 0;
  // What came before the first backup in sight is not known.
  let known = false;
  for (let place = 0; place + 1 < rates.length; place += 1) {
    const begin = Date.parse(rates[place].at), end = Date.parse(rates[place + 1].at);
    let from = begin;
    while (next < marks.length && marks[next] < end) {
      if (marks[next] >= begin) {
        if (known) points.push([marks[next], sum + rates[place].rate * (marks[next] - from) / 1000]);
        points.push([marks[next], 0]);
        from = marks[next];
      }
      sum = 0;
      known = true;
      next += 1;
    }
    sum += rates[place].rate * (end - from) / 1000;
    if (known) points.push([end, sum]);
  }
  return points;
}

function chart(schedule) {
  const rates = schedule.rates || [], forecast = schedule.forecast || [], slots = (schedule.cronSlots || []).map((slot) => Date.parse(slot));
  const rows = rowsOf(schedule).filter((row) => row.time), good = rows.filter((row) => !row.error);
  const decision = schedule.status.decision || {}, next = schedule.status.nextBackupTime && Date.parse(schedule.status.nextBackupTime);
  const drawn = rates.length > 1;
  const times = [now(), ...rates.map((point) => Date.parse(point.at)), ...(next ? [next] : [])];
  if (!drawn) times.push(...rows.map((row) => Date.parse(row.time)));
  else if (forecast.length) times.push(Math.min(Date.parse(forecast[forecast.length - 1].at), now() + (now() - Math.min(...times)) / 3));
  const start = Math.min(...times), end = Math.max(...times);
  if (end - start < 1000 || (!drawn && !rows.length)) return null;

  const width = room(), left = 8, right = width - 8, parts = [];
  const x = (time) => left + ((time - start) / (end - start)) * (right - left);
  const inside = (time) => time >= start && time <= end;
  const text = (place, y, words, kind, anchor) => parts.push(el("text", { x: place.toFixed(1), y, class: kind, "text-anchor": anchor }, words));
  const path = (points, y) => points.map(([time, value], place) => (place ? "L" : "M") + x(time).toFixed(1) + " " + y(value).toFixed(1)).join("");
  const panel = (top, base, peak) => (value) => base - Math.min(1, value / Math.max(1e-9, peak)) * (base - top);
  const floor = (base) => parts.push(el("line", { class: "axis", x1: left, x2: right, y1: base, y2: base }));
  let base = 0;

  if (drawn) {
    const shown = forecast.filter((point) => Date.parse(point.at) <= end);
    const peak = Math.max(1e-9, ...rates.map((point) => point.rate), ...shown.map((point) => point.rate));
    const pairs = (points) => points.map((point) => [Date.parse(point.at), point.rate]);
    const y = panel(20, 110, peak);
    text(left, 12, "changes a second, up to " + short(peak), "label");
    floor(110);
    const line = pairs(rates);
    parts.push(el("path", { class: "rate", d: path(line, y) + "L" + x(line[line.length - 1][0]).toFixed(1) + " 110L" + x(line[0][0]).toFixed(1) + " 110Z" }));
    if (shown.length > 1) parts.push(el("path", { class: "forecast", d: path(pairs(shown), y) }));
    base = 110;
  }

  // Lanes: what the cron would have done, what was done.
  const lane = (y, words) => { text(left, y - 9, words, "label"); parts.push(el("line", { class: "axis", x1: left, x2: right, y1: y, y2: y })); };
  const upper = base + 14;
  let lanes = base + 32;
  if (slots.some(inside)) {
    lane(lanes, "the cron");
    for (const slot of slots.filter(inside)) parts.push(el("line", { class: "slot", x1: x(slot).toFixed(1), x2: x(slot).toFixed(1), y1: lanes - 5, y2: lanes + 5 }, el("title", {}, "cron, " + clock(slot))));
    lanes += 34;
  }
  lane(lanes, "backups");
  let gaps = 0;
  const allowed = schedule.protectedUntil && schedule.status.recoverableTo ? Date.parse(schedule.protectedUntil) - Date.parse(schedule.status.recoverableTo) : 0;
  const ends = good.map((row) => Date.parse(row.time)).sort((a, b) => a - b);
  for (let place = 0; allowed > 0 && place < ends.length; place += 1) {
    const until = place + 1 < ends.length ? ends[place + 1] : now(), late = Math.max(ends[place] + allowed, start);
    gaps += until > late ? 1 : 0;
    if (until > late) parts.push(el("line", { class: "gap", x1: x(late).toFixed(1), x2: x(until).toFixed(1), y1: lanes, y2: lanes }, el("title", {}, "not protected for " + span(until - late))));
  }
  for (const row of rows.filter((one) => inside(Date.parse(one.time)))) {
    const at = x(Date.parse(row.time)).toFixed(1);
    const mark = row.error ? el("path", { class: "Failed", d: "M" + (at - 4) + " " + (lanes - 4) + "l8 8m0-8l-8 8" })
      : row.level === "Drilled" ? el("path", { class: "Drilled", d: "M" + at + " " + (lanes - 7) + "l7 7l-7 7l-7-7Z" })
      : el("circle", { class: row.level === "Completed" ? "Verified" : row.level, cx: at, cy: lanes, r: 5 });
    mark.append(el("title", {}, clock(row.time) + ": " + (row.error ? "failed: " + row.error : LEVELS[row.level] || row.level)));
    parts.push(mark);
  }
  let bottom = lanes + 12;

  const risk = drawn ? atRisk(rates, good) : [], byCron = drawn ? atRisk(rates, slots.map((slot) => ({ time: new Date(slot).toISOString() }))) : [];
  if (risk.length > 1) {
    const top = bottom + 24, floorAt = top + 80, budget = decision.budget || 0;
    const peak = Math.max(budget, ...risk.map((point) => point[1]), ...byCron.map((point) => point[1]));
    const y = panel(top, floorAt, peak);
    text(left, top - 6, "changes at risk, up to " + short(peak), "label");
    floor(floorAt);
    parts.push(el("path", { class: "rate", d: path(risk, y) + "L" + x(risk[risk.length - 1][0]).toFixed(1) + " " + floorAt + "L" + x(risk[0][0]).toFixed(1) + " " + floorAt + "Z" }));
    if (byCron.length > 1) parts.push(el("path", { class: "bycron", d: path(byCron, y) }));
    if (budget) parts.push(el("line", { class: "budget", x1: left, x2: right, y1: y(budget).toFixed(1), y2: y(budget).toFixed(1) }, el("title", {}, "par: " + number(budget) + " changes")));
    bottom = floorAt;
  }

  const upright = (time, kind, words) => {
    const place = x(time), late = place > width - 90;
    parts.push(el("line", { class: kind, x1: place.toFixed(1), x2: place.toFixed(1), y1: upper - (drawn ? 104 : 10), y2: bottom + 2 }));
    return [late ? place - 3 : place + 3, words, late ? "end" : "start"];
  };
  const labels = [upright(now(), "now", "now")];
  if (next && next > now()) labels.push(upright(next, "next", "next backup"));
  labels.forEach(([place, words, anchor], row) => text(place, bottom + 14 + 13 * row, words, kindOf(row), anchor));
  text(left, bottom + 14, clock(start), "label");

  const words = good.length + " good backups, " + (rows.length - good.length) + " failed, from " + clock(start) + " to " + clock(end);
  const legend = [["dot Verified", "proved"], ["dot Stored", "only stored"], ...(rows.some((row) => row.level === "Drilled") ? [["dot Drilled", "drilled (diamond)"]] : []), ...(rows.length > good.length ? [["cross", "failed"]] : []), ...(gaps ? [["dash gap", "not protected"]] : []),
    ...(slots.some(inside) ? [["tick slot", "cron"]] : []), ...(forecast.length > 1 && drawn ? [["dash forecast", "forecast"]] : []), ...(decision.budget && risk.length > 1 ? [["dash budget", "par"]] : [])];
  return el("div", {}, el("svg", { viewBox: "0 0 " + width + " " + (bottom + 32), role: "img", "aria-label": words }, parts),
    el("p", { class: "legend" }, legend.map(([kind, label]) => el("span", {}, el("i", { class: "key " + kind }), label))));
}

const kindOf = (row) => (row ? "label nextlabel" : "label");

// The size of each backup as a bar, oldest first, and how long it took.
function sizes(schedule) {
  const rows = (schedule.backups || []).filter((row) => !row.error && row.size > 0).slice(0, 30).reverse();
  if (rows.length < 2) return null;
  const width = room(), step = (width - 16) / rows.length, peak = Math.max(...rows.map((row) => row.size)), longest = Math.max(...rows.map((row) => row.durationSeconds || 0));
  const parts = [el("line", { class: "axis", x1: 8, x2: width - 8, y1: 64, y2: 64 })];
  rows.forEach((row, place) => {
    const at = 8 + place * step, wide = Math.min(step * 0.7, 28), words = clock(row.time) + ": " + bytes(row.size) + ", stored " + bytes(row.storedSize) + (row.durationSeconds === undefined ? "" : ", took " + seconds(row.durationSeconds));
    const bar = (kind, size) => el("rect", { class: kind, x: at.toFixed(1), y: (64 - 50 * size / peak).toFixed(1), width: wide.toFixed(1), height: (50 * size / peak).toFixed(1) }, el("title", {}, words));
    parts.push(bar("size", row.size), bar("stored", row.storedSize));
  });
  const last = rows[rows.length - 1], expected = schedule.expected;
  const words = "The newest is " + bytes(last.size) + ", stored as " + bytes(last.storedSize) + "; the slowest of these took " + seconds(longest) + "."
    + (expected && expected.rawSize ? " Expected next: " + bytes(expected.rawSize.likely) + (expected.seconds ? " in " + seconds(expected.seconds.likely) : "") + "." : "");
  return el("div", {}, el("svg", { viewBox: "0 0 " + width + " 68", role: "img", "aria-label": words }, parts),
    el("p", { class: "legend" }, el("span", {}, el("i", { class: "key tick size" }), "size"), el("span", {}, el("i", { class: "key tick stored" }), "stored"), el("span", {}, words)));
}

const seconds = (count) => (count < 10 ? count.toFixed(1) + "s" : span(count * 1000));
