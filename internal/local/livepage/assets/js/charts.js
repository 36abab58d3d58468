// The charts of the last five minutes, drawn by uPlot.
import { byId, count, dollars, milliseconds, percent } from './format.js';

const minutes = 5;
const points = [];

const charts = [
  {
    id: 'throughput', series: [['in', 'into Kafka', '--c2'], ['landed', 'landed', '--c1'], ['dead', 'rejected', '--c3']],
    write: v => count(Math.round(v)) + '/s', axis: count, least: 10,
  },
  { id: 'latency', series: [['p99', 'p99', '--c2'], ['p50', 'p50', '--c1']], write: milliseconds, axis: v => v >= 1000 ? v / 1000 + ' s' : v + ' ms', least: 100 },
  { id: 'waiting', series: [['lag', 'records in Kafka', '--c1'], ['backlog', 'messages in Pub/Sub', '--c2']], write: count, axis: count, least: 10 },
  { id: 'quality', series: [['quality', 'landed, last minute', '--c1']], write: percent, axis: v => +v.toFixed(2) + ' %', percent: true },
  { id: 'cost', series: [['cost', 'last minute', '--c1']], write: dollars, axis: v => '$' + +v.toFixed(4), least: 0.01 },
];

// span is what the charts show: what there is, from one minute to five.
function span() {
  const end = (points.at(-1)?.t ?? Date.now()) / 1000, begin = (points[0]?.t ?? Date.now()) / 1000;
  return [Math.min(end - 60, Math.max(begin, end - minutes * 60)), end];
}

// time labels a moment: to the second while little is shown, later the full minutes.
function time(seconds) {
  const [begin, end] = span(), at = new Date(seconds * 1000);
  if (end - begin < 150) return at.toLocaleTimeString([], { hour12: false });
  return seconds % 60 ? '' : at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hour12: false });
}

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// build makes the plots, anew when the theme has changed.
export function build() {
  for (const c of charts) {
    c.plot?.destroy();
    const element = byId('chart-' + c.id);
    const axis = { stroke: colour('--soft'), grid: { stroke: colour('--grid'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
    c.plot = new uPlot({
      width: Math.max(element.clientWidth, 50), height: element.clientHeight,
      legend: { show: false }, cursor: { show: false }, padding: [8, 24, 0, 0],
      scales: {
        x: { time: true, range: span },
        // Quality lives just below 100 %: its scale begins where its values do.
        y: { range: (_, low, high) => c.percent ? [Math.max(0, Math.floor((low ?? 99) - 0.5)), 100] : [0, Math.max((high ?? 0) * 1.15, c.least)] },
      },
      axes: [
        { ...axis, size: 26, space: 70, values: (_, ticks) => ticks.map(time), incrs: [15, 30, 60, 120, 300] },
        { ...axis, size: 54, space: 34, values: (_, ticks) => ticks.map(c.axis) },
      ],
      series: [{}, ...c.series.map(([, , name], i) => ({
        stroke: colour(name), width: 1.75, points: { show: false }, spanGaps: false,
        fill: i === c.series.length - 1 && c.series.length === 1 ? colour(name) + '22' : undefined,
      }))],
    }, columns(c), element);
  }
  now();
}

const columns = c => [points.map(p => p.t / 1000), ...c.series.map(([key]) => points.map(p => p[key]))];

// now writes the latest values above each chart.
function now() {
  for (const c of charts) {
    const line = byId('now-' + c.id);
    if (line.children.length !== c.series.length) {
      line.replaceChildren(...c.series.map(([, label, name]) => {
        const item = document.createElement('span'), mark = document.createElement('i'), value = document.createElement('b');
        mark.style.background = `var(${name})`;
        item.append(mark, value, ' ' + label);
        return item;
      }));
    }
    c.series.forEach(([key], i) => {
      // The last interval may have had no rows; the value before it still tells something.
      const known = points.slice(-10).map(p => p[key]).filter(v => v != null).at(-1);
      line.children[i].querySelector('b').textContent = known == null ? '–' : c.write(known);
    });
  }
}

// past takes over what was before the page was opened.
export function past(history) {
  points.length = 0;
  points.push(...history);
  if (points.length) build();
}

// add takes a tick.
export function add(tick) {
  if (points.at(-1)?.t === tick.t) return;
  points.push(tick);
  while (points[0].t < tick.t - minutes * 60_000) points.shift();
  if (!charts[0].plot) build();
  for (const c of charts) c.plot.setData(columns(c));
  now();
}

new ResizeObserver(() => {
  for (const c of charts) {
    const e = byId('chart-' + c.id);
    c.plot?.setSize({ width: Math.max(e.clientWidth, 50), height: e.clientHeight });
  }
}).observe(document.querySelector('.charts'));
