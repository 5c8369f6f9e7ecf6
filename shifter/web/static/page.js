// Connects the page to its stream while it is visible, and draws the chart.
"use strict";

(() => {
  const live = document.getElementById("live");
  const holder = document.getElementById("chart");
  const MOST = 600;
  let chart = null;
  let columns = null;
  let isOn = false;
  let connection = 0;

  function connect() {
    if (isOn || document.hidden) return;
    isOn = true;
    connection += 1;
    live.setAttribute("sse-connect", live.dataset.stream);
    // htmx looks again at elements whose attributes have changed, and at no others.
    live.dataset.connection = connection;
    for (const part of live.querySelectorAll("[sse-swap]")) part.dataset.connection = connection;
    htmx.process(live);
  }

  function disconnect() {
    if (!isOn) return;
    isOn = false;
    // The extension closes the connection of an element that is cleaned up.
    htmx.trigger(live, "htmx:beforeCleanupElement");
    live.removeAttribute("sse-connect");
  }

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  // A line for each change that the list below the chart shows.
  function marks(plot) {
    const { ctx, bbox, scales } = plot;
    ctx.save();
    ctx.strokeStyle = colour("--bad");
    ctx.setLineDash([3, 3]);
    for (const time of document.querySelectorAll("#changes time")) {
      const at = Number(time.dataset.ms) / 1000;
      if (at < scales.x.min || at > scales.x.max) continue;
      const x = Math.round(plot.valToPos(at, "x", true));
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  function draw() {
    if (!columns || columns[0].length < 2) return;
    const data = [columns[0].map((ms) => ms / 1000), columns[1], columns[2]];
    if (chart) {
      chart.setData(data);
      return;
    }
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 } };
    chart = new uPlot({
      width: holder.clientWidth || 320,
      height: 150,
      legend: { live: false },
      cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [0, Math.max(1, high * 1.1)] } },
      axes: [axis, { ...axis, size: 56 }],
      hooks: { draw: [marks] },
      series: [
        {},
        { label: "waiting", stroke: colour("--link"), width: 2 },
        { label: "delayed", stroke: colour("--warning"), width: 2 },
      ],
    }, data, holder);
  }

  async function history() {
    try {
      const answer = await fetch(live.dataset.history, { credentials: "same-origin" });
      if (answer.ok) columns = await answer.json();
      draw();
    } catch (error) {
      // The banner shows that the server does not answer.
    }
  }

  function add(point) {
    if (!columns || !columns.length) columns = point.map(() => []);
    if (columns[0].at(-1) === point[0]) return;
    point.forEach((value, place) => {
      columns[place].push(value);
      if (columns[place].length > MOST) columns[place].shift();
    });
    draw();
  }

  function onPoint(message) {
    add(JSON.parse(message.data));
  }

  document.addEventListener("htmx:sseOpen", (event) => {
    document.body.classList.remove("offline");
    event.detail.source.addEventListener("point", onPoint);
    history();
  });
  document.addEventListener("htmx:sseError", () => document.body.classList.add("offline"));
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", connect);
  window.addEventListener("resize", () => {
    if (chart) chart.setSize({ width: holder.clientWidth, height: 150 });
  });
  connect();
})();
