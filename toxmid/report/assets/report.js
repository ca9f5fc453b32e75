// Unpacks the columns, draws the panels, keeps them on one stretch of time, and sorts the table. Computes nothing else.
(async () => {
  "use strict";
  const $ = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const spec = JSON.parse($("#spec").textContent);

  if (typeof DecompressionStream === "undefined") {
    const message = $("#message");
    message.textContent = "This browser is too old to unpack the panels (it lacks DecompressionStream, of 2023). Everything else on this page is complete.";
    message.hidden = false;
    return;
  }

  // --- columns ------------------------------------------------------------------------------------------------------

  async function inflate(text) {
    const characters = atob(text);
    const packed = new Uint8Array(characters.length);
    for (let i = 0; i < packed.length; i++) packed[i] = characters.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function unpack(bytes, table) {
    const columns = {};
    let at = 0;
    for (const { name, length, power, gaps } of table) {
      const bitmap = at;
      if (gaps) at += Math.ceil(length / 8);
      const values = new Array(length);
      const factor = 10 ** Math.abs(power);
      let whole = 0;
      for (let i = 0; i < length; i++) {
        const zigzag = (bytes[at + i] | (bytes[at + length + i] << 8) | (bytes[at + 2 * length + i] << 16) | (bytes[at + 3 * length + i] << 24)) >>> 0;
        whole += (zigzag >>> 1) ^ -(zigzag & 1);
        const missing = gaps && (bytes[bitmap + (i >> 3)] >> (7 - (i & 7))) & 1;
        values[i] = missing ? null : power < 0 ? whole / factor : whole * factor;
      }
      at += 4 * length;
      columns[name] = values;
    }
    return columns;
  }

  const columns = unpack(await inflate($("#data").textContent), spec.columns);
  const timeOfRow = (row) => (spec.start_ms + row * spec.bar_ms) / 1e3;
  const times = columns.row.map(timeOfRow);
  const bar = spec.bar_ms / 1e3;
  const whole = [timeOfRow(0) - bar, timeOfRow(spec.bars - 1)];
  const regimes = columns.regime_row.map((row, i) => ({
    from: timeOfRow(row) - bar,
    to: timeOfRow(columns.regime_row[i + 1] ?? spec.bars) - bar,
    code: columns.regime[i],
  })).filter(({ code }) => code > 0 && !spec.calm.includes(spec.regimes[code]));

  // --- words --------------------------------------------------------------------------------------------------------

  const formats = {};
  function number(value, decimals) {
    formats[decimals] ??= new Intl.NumberFormat("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
    return formats[decimals].format(value).replace("-", "−");
  }
  function decimalsOf(step) {
    let decimals = 0;
    while (decimals < 12 && Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) > 1e-6) decimals++;
    return decimals;
  }
  function short(value) {
    const size = Math.abs(value);
    return size >= 1e6 ? number(value / 1e6, size >= 1e7 ? 0 : 1) + "M" : size >= 1e4 ? number(value / 1e3, 0) + "k" : number(value, size && size < 1 ? decimalsOf(size) : 0);
  }
  const pad = (value, digits = 2) => String(value).padStart(digits, "0");
  function clock(seconds, day = true) {
    const at = new Date(Math.round(seconds * 1e3));
    const date = `${at.getUTCFullYear()}-${pad(at.getUTCMonth() + 1)}-${pad(at.getUTCDate())} `;
    const rest = bar < 1 ? "." + pad(at.getUTCMilliseconds(), 3) : "";
    return (day ? date : "") + `${pad(at.getUTCHours())}:${pad(at.getUTCMinutes())}:${pad(at.getUTCSeconds())}${rest}`;
  }
  function span(seconds) {
    if (seconds < 60) return number(seconds, seconds % 1 ? 1 : 0) + " s";
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min` + (seconds % 60 >= 1 ? ` ${Math.floor(seconds % 60)} s` : "");
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h` + (seconds % 3600 >= 60 ? ` ${Math.floor((seconds % 3600) / 60)} min` : "");
    return `${Math.floor(seconds / 86400)} d` + (seconds % 86400 >= 3600 ? ` ${Math.floor((seconds % 86400) / 3600)} h` : "");
  }

  // --- colours ------------------------------------------------------------------------------------------------------

  let palette = {};
  const color = (name) => (palette[name] ??= getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim());
  const kindColor = (kind) => color("kind-" + kind) || color("kind-other");
  const shaded = spec.regimes.filter((name) => name && !spec.calm.includes(name));
  const regimeColor = (name) => color("regime-" + name.replace(/[^\w-]+/g, "-")) || color("regime-other");

  // --- one panel ----------------------------------------------------------------------------------------------------

  const plots = [];
  const host = $("#panels");
  let chosen = null;
  const narrow = () => host.clientWidth < 640;
  const gutter = (side) => (side === "left" ? (narrow() ? 54 : 66) : narrow() ? 40 : 54);

  function clipTo(u, draw) {
    const { left, top, width, height } = u.bbox;
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(left, top, width, height);
    u.ctx.clip();
    draw(left, top, width, height);
    u.ctx.restore();
  }

  function shade(u) {
    clipTo(u, (left, top, width, height) => {
      let painted = -Infinity;
      for (const { from, to, code } of regimes) {
        if (to < u.scales.x.min || from > u.scales.x.max) continue;
        // A run thinner than a pixel is still one pixel wide, but never painted twice.
        const x0 = Math.max(painted, Math.floor(u.valToPos(from, "x", true)));
        const x1 = Math.max(x0 + (x0 > painted ? 1 : 0), Math.ceil(u.valToPos(to, "x", true)));
        if (x1 <= x0) continue;
        u.ctx.fillStyle = regimeColor(spec.regimes[code]);
        u.ctx.fillRect(x0, top, x1 - x0, height);
        painted = x1;
      }
      if (chosen) {
        u.ctx.strokeStyle = color("muted");
        u.ctx.lineWidth = devicePixelRatio;
        u.ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
        for (const at of chosen) {
          const x = Math.round(u.valToPos(at, "x", true)) + 0.5;
          u.ctx.beginPath();
          u.ctx.moveTo(x, top);
          u.ctx.lineTo(x, top + height);
          u.ctx.stroke();
        }
      }
    });
  }

  function markEpisodes(u) {
    clipTo(u, (left, top) => {
      for (const [kind, start, end] of spec.events) {
        const x0 = u.valToPos(start, "x", true);
        const x1 = Math.max(x0 + 2 * devicePixelRatio, u.valToPos(end, "x", true));
        u.ctx.fillStyle = kindColor(kind);
        u.ctx.fillRect(x0, top, x1 - x0, 5 * devicePixelRatio);
      }
    });
  }

  function guides(u, panel) {
    clipTo(u, (left, top, width) => {
      u.ctx.strokeStyle = color("muted");
      u.ctx.globalAlpha = 0.7;
      u.ctx.lineWidth = devicePixelRatio;
      u.ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
      for (const [side, value] of panel.guides) {
        const y = Math.round(u.valToPos(value, side, true)) + 0.5;
        u.ctx.beginPath();
        u.ctx.moveTo(left, y);
        u.ctx.lineTo(left + width, y);
        u.ctx.stroke();
      }
    });
  }

  // Bars from zero; of all that fall into one pixel column the longest is drawn.
  function stems(u, index, first, last) {
    const { scale } = u.series[index];
    const values = u.data[index];
    const zero = u.valToPos(0, scale, true);
    const perBar = u.valToPos(times[0] + bar, "x", true) - u.valToPos(times[0], "x", true);
    const thick = Math.max(devicePixelRatio, Math.min(perBar * 0.7, 14 * devicePixelRatio));
    const path = new Path2D();
    let column = null, longest = 0;
    const flush = () => {
      if (!longest) return;
      const end = u.valToPos(longest, scale, true);
      path.rect(column, Math.min(zero, end), thick, Math.max(Math.abs(zero - end), devicePixelRatio));
    };
    for (let i = first; i <= last; i++) {
      const value = values[i];
      if (!value) continue;
      const x = Math.floor(u.valToPos(times[i], "x", true) - (perBar + thick) / 2);
      if (x !== column) {
        flush();
        column = x;
        longest = 0;
      }
      if (Math.abs(value) > Math.abs(longest)) longest = value;
    }
    flush();
    return { stroke: null, fill: path, clip: null, band: null, gaps: null, flags: 1 };
  }

  // Least and greatest value of the lines of one axis in view; edges of a band are asked for apart.
  function extent(u, panel, side, edges) {
    const { spacing, floor } = panel.axes[side];
    const least = spacing === "log" ? floor ?? Number.MIN_VALUE : -Infinity;
    const [first, last] = u.series[0].idxs ?? [0, times.length - 1];
    let low = Infinity, high = -Infinity;
    panel.series.forEach((line, k) => {
      if (line.axis !== side || (line.kind === "edge") !== edges || !u.series[k + 1].show) return;
      const values = u.data[k + 1];
      for (let i = first; i <= last; i++) {
        const value = values[i];
        if (value === null || value < least) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    });
    return [low, high];
  }

  // What an axis shows. A wide interval may not flatten the prices: it widens the axis by a part of their own height.
  function shown(u, panel, side) {
    const { spacing, lane } = panel.axes[side];
    let [low, high] = extent(u, panel, side, false);
    const [bandLow, bandHigh] = extent(u, panel, side, true);
    if (low > high) [low, high] = bandLow > bandHigh ? [spacing === "log" ? 0.1 : 0, 1] : [bandLow, bandHigh];
    const height = high - low || Math.abs(high) * 1e-3 || 1;
    low = Math.max(Math.min(low, bandLow), low - 0.3 * height);
    high = Math.min(Math.max(high, bandHigh), high + 0.3 * height);
    if (spacing === "log") return [low / 1.25, high * 1.25];
    if (spacing === "asinh") return [low * 1.3, high * 1.3];
    if (panel.series.every((line) => line.axis !== side || line.kind === "stem")) return [0, high || 1];
    const margin = 0.07 * (high - low || height);
    return [low - margin, high + margin];
  }

  // The ends of the whole axis, such that what it shows falls into its lane.
  function limits(u, panel, side) {
    const axis = panel.axes[side];
    if (axis.limits) return axis.limits;
    const [to, from] = axis.spacing === "log" ? [Math.log10, (value) => 10 ** value] : [(value) => value, (value) => value];
    const [low, high] = (axis.shown = shown(u, panel, side)).map(to);
    const unit = (high - low) / (axis.lane[1] - axis.lane[0]);
    return [low - axis.lane[0] * unit, high + (1 - axis.lane[1]) * unit].map(from);
  }

  const scaleOf = (panel, side) => {
    const { spacing, knee } = panel.axes[side];
    return {
      auto: true,
      distr: { linear: 1, log: 3, asinh: 4 }[spacing],
      ...(spacing === "log" ? { clamp: (u, value, low) => low / 10 } : {}),
      ...(spacing === "asinh" ? { asinh: knee } : {}),
      range: (u) => limits(u, panel, side),
    };
  };

  // The only digit of a value such as 0.2 or 5,000; null if it has several.
  function leading(value) {
    if (value === 0) return 1;
    const digit = Math.abs(value) / 10 ** Math.floor(Math.log10(Math.abs(value)) + 1e-9);
    return Math.abs(digit - Math.round(digit)) < 1e-6 ? Math.round(digit) : null;
  }

  // Zero and the powers of ten beyond the knee of an asinh axis, every other one where there are many.
  function decades(low, high, knee) {
    const first = Math.ceil(Math.log10(knee) - 1e-9), last = Math.floor(Math.log10(Math.max(high, -low)) + 1e-9);
    const step = Math.max(1, Math.ceil((last - first + 1) / 3));
    const marks = [0];
    for (let power = last; power >= first; power -= step) marks.push(10 ** power, -(10 ** power));
    return marks.filter((value) => value >= low && value <= high).sort((a, b) => a - b);
  }

  const axisOf = (panel, side) => {
    const axis = panel.axes[side];
    const owners = panel.series.filter((line) => line.axis === side && line.kind !== "edge");
    const owner = Object.keys(panel.axes).length > 1 && owners.length === 1 ? owners[0].color : "muted";
    // Of the marks that uPlot proposes: those inside the lane, and of a logarithm the decades, or 1, 2 and 5 where there are none or one.
    const fits = (u, splits) => {
      const [low, high] = axis.shown ?? [-Infinity, Infinity];
      const inside = splits.map((value) => (value < low || value > high ? null : value));
      if (axis.spacing === "linear") return inside;
      const few = inside.filter((value) => value !== null && leading(value) === 1).length < 2;
      const kept = few ? [1, 2, 5] : [1];
      return inside.map((value) => (value !== null && kept.includes(leading(value)) ? value : null));
    };
    const text = (value, step) => {
      if (axis.spacing !== "linear") return short(Math.abs(value));
      const exact = number(value, decimalsOf(step));
      return exact.length > (side === "left" ? 9 : 7) ? short(value) : exact;
    };
    return {
      scale: side,
      side: side === "left" ? 3 : 1,
      stroke: () => color(owner),
      size: () => gutter(side),
      gap: 6,
      font: "12px system-ui, sans-serif",
      space: axis.spacing === "linear" ? 32 : 18,
      ...(axis.spacing === "asinh" ? { splits: (u, index, low, high) => decades(low, high, axis.knee) } : {}),
      filter: fits,
      grid: { show: side === "left" || axis.lane[0] > 0, stroke: () => color("grid"), width: 1, filter: fits },
      ticks: { show: false },
      values: (u, splits, index, space, step) => splits.map((value) => (value === null ? "" : text(value, step))),
    };
  };

  const timeAxis = {
    stroke: () => color("muted"),
    grid: { stroke: () => color("grid"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
    size: 36,
    gap: 4,
    space: 80,
    values: [
      [3600 * 24 * 28, "{MMM} {YYYY}", null, null, null, null, null, null, 1],
      [3600 * 24, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
      [60, "{HH}:{mm}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
      [1, "{HH}:{mm}:{ss}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
      [0.001, "{ss}.{fff}", "\n{D} {MMM} {HH}:{mm}", null, "\n{D} {MMM} {HH}:{mm}", null, "\n{HH}:{mm}", null, 1],
    ],
  };

  // What is drawn is what is known, except downwards where so said, and at the floor where a logarithm would run off.
  function drawn({ column, sign }, { floor }) {
    if (sign > 0 && floor === null) return columns[column];
    return columns[column].map((value) => (value === null ? null : Math.max(sign * value, floor ?? -Infinity)));
  }

  function build(panel) {
    const section = $("#panel-" + panel.name);
    const seen = new Set();
    const lines = panel.series.map((line) => {
      const twin = seen.has(line.label);
      seen.add(line.label);
      const { decimals } = panel.axes[line.axis];
      const says = (u, drawn, k, i) => (i == null || columns[line.column][i] === null ? "" : number(columns[line.column][i], decimals));
      const common = { label: line.label, scale: line.axis, value: line.kind === "edge" ? () => "" : says, points: { show: false }, class: twin ? "twin" : line.kind, auto: line.kind !== "edge" };
      if (line.kind === "stem") return { ...common, stroke: () => color(line.color), fill: () => color(line.color), width: 0, paths: stems };
      if (line.kind === "edge") return { ...common, stroke: () => color(line.color), width: 0.75, spanGaps: false };
      return { ...common, stroke: () => color(line.color), width: line.width, dash: line.dash ?? undefined, spanGaps: false };
    });
    const index = (column) => panel.series.findIndex((line) => line.column === column) + 1;
    const sides = Object.keys(panel.axes);
    const u = new uPlot({
      width: host.clientWidth - (narrow() ? 14 : 26),
      height: panel.height,
      padding: [8, sides.includes("right") ? 0 : gutter("right"), 0, 0],
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
      scales: { x: { time: true, auto: false, min: whole[0], max: whole[1] }, ...Object.fromEntries(sides.map((side) => [side, scaleOf(panel, side)])) },
      series: [{}, ...lines],
      bands: panel.band ? [{ series: panel.band.map(index), fill: () => color("implied-band") }] : [],
      axes: [timeAxis, ...sides.map((side) => axisOf(panel, side))],
      legend: { mount: (plot, table) => section.querySelector(".legend").append(table), markers: { width: 0, fill: (plot, k) => color(panel.series[k - 1].color) } },
      cursor: { y: false, points: { size: 6 }, sync: { key: "toxmid", setSeries: false }, drag: { x: true, y: false, setScale: false, dist: 4 }, bind: { dblclick: () => () => zoom(...whole) } },
      hooks: {
        drawClear: [shade],
        drawAxes: [(plot) => guides(plot, panel)],
        draw: panel.name === "price" ? [markEpisodes] : [],
        setSelect: [(plot) => {
          const { left, width } = plot.select;
          if (width > 3) zoom(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
        }],
        setCursor: [(plot) => {
          if (plot === plots[0]) $("#cursor").textContent = plot.cursor.idx == null || plot.cursor.left < 0 ? "" : clock(times[plot.cursor.idx]) + " UTC";
        }],
      },
    }, [times, ...panel.series.map((line) => drawn(line, panel.axes[line.axis]))], section.querySelector(".plot"));
    section.querySelector(".plot").style.minHeight = "";
    return u;
  }

  // --- one stretch of time for all ----------------------------------------------------------------------------------

  function drawnEvery(from, to) {
    let widest = 0, previous = null;
    for (let i = 0; i < columns.row.length; i++) {
      if (times[i] < from || times[i] > to) continue;
      if (previous !== null) widest = Math.max(widest, columns.row[i] - previous);
      previous = columns.row[i];
    }
    return widest <= 1 ? `every bar of ${span(bar)} drawn` : `bars with the extremes of every ${span(spec.bucket * bar)} drawn`;
  }

  function zoom(from, to) {
    const least = Math.min(5 * bar, whole[1] - whole[0]);
    if (to - from < least) [from, to] = [(from + to - least) / 2, (from + to + least) / 2];
    const length = Math.min(to - from, whole[1] - whole[0]);
    from = Math.min(Math.max(from, whole[0]), whole[1] - length);
    to = from + length;
    for (const plot of plots) {
      plot.batch(() => {
        plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        plot.setScale("x", { min: from, max: to });
      });
    }
    const sameDay = clock(from).slice(0, 10) === clock(to).slice(0, 10);
    $("#range").textContent = `${clock(from)} – ${clock(to, !sameDay)} UTC · ${span(Math.round(length * 1e3) / 1e3)}`;
    $("#resolution").textContent = drawnEvery(from, to);
  }

  const moves = {
    all: () => whole,
    left: (from, to) => [from - (to - from) / 2, to - (to - from) / 2],
    right: (from, to) => [from + (to - from) / 2, to + (to - from) / 2],
    in: (from, to) => [from + (to - from) / 4, to - (to - from) / 4],
    out: (from, to) => [from - (to - from) / 2, to + (to - from) / 2],
  };
  for (const button of all("[data-zoom]")) {
    button.addEventListener("click", () => zoom(...moves[button.dataset.zoom](plots[0].scales.x.min, plots[0].scales.x.max)));
  }

  // --- table of episodes --------------------------------------------------------------------------------------------

  function choose(row) {
    all(".chosen").forEach((other) => other.classList.remove("chosen"));
    row.classList.add("chosen");
    chosen = [Number(row.dataset.start), Number(row.dataset.end)];
    zoom(Number(row.dataset.from), Number(row.dataset.to));
    host.scrollIntoView({ behavior: "auto", block: "start" });
    scrollBy(0, -$(".toolbar").offsetHeight);
  }
  all("#episodes tbody tr").forEach((row) => row.addEventListener("click", () => choose(row)));

  function sortBy(head, position) {
    const direction = head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
    all("#episodes thead th").forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = all("#episodes tbody tr").map((row) => [row.children[position].dataset.order, row]);
    const numeric = keyed.every(([key]) => key === "" || !Number.isNaN(Number(key)));
    keyed.sort(([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      return sign * (numeric ? Number(a) - Number(b) : a < b ? -1 : a > b ? 1 : 0);
    });
    $("#episodes tbody").append(...keyed.map(([, row]) => row));
  }
  all("#episodes thead th").forEach((head, position) => head.firstElementChild.addEventListener("click", () => sortBy(head, position)));

  // --- page ---------------------------------------------------------------------------------------------------------

  function paint() {
    palette = {};
    all(".swatch[data-kind]").forEach((swatch) => (swatch.style.background = kindColor(swatch.dataset.kind)));
    $("#regime-keys").replaceChildren(...shaded.map((name) => {
      const key = document.createElement("span");
      const swatch = document.createElement("i");
      swatch.className = "swatch regime";
      swatch.style.background = regimeColor(name);
      key.append(swatch, name);
      return key;
    }));
  }

  function rebuild() {
    const [from, to] = plots.length ? [plots[0].scales.x.min, plots[0].scales.x.max] : whole;
    plots.splice(0).forEach((plot) => plot.destroy());
    all(".legend").forEach((legend) => legend.replaceChildren());
    paint();
    plots.push(...spec.panels.map(build));
    zoom(from, to);
  }

  rebuild();
  let width = host.clientWidth, waiting = 0;
  new ResizeObserver(() => {
    if (host.clientWidth === width) return;
    width = host.clientWidth;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(rebuild);
  }).observe(host);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", rebuild);
  // Paper is white and narrower than the screen.
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("paper");
    host.style.width = "700px";
    rebuild();
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("paper");
    host.style.width = "";
    rebuild();
  });
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
