// The picture: the parts with their numbers, and the water between them.
import { byId, make, quantity, setText } from './format.js';

// pipes run from part to part; their water runs at the rate of the number named.
const pipes = [
  { from: 'kafka', to: 'bridge', rate: t => t.bridged, stops: ['kafka', 'bridge'] },
  { from: 'bridge', to: 'pubsub', rate: t => t.bridged, stops: ['bridge', 'pubsub'] },
  { from: 'pubsub', to: 'ingest', rate: t => t.pushed && Math.max(1, t.landed + t.dead), stops: ['ingest'] },
  { from: 'ingest', to: 'warehouse', rate: t => t.landed, stops: ['warehouse'] },
  { from: 'ingest', to: 'dead-letter-topic', rate: t => t.dead, dead: true, stops: [] },
  { from: 'dead-letter-topic', to: 'dead-letter', rate: t => t.dead, dead: true, stops: ['dead-letter'] },
  { from: 'dead-letter', to: 'dead-letters', rate: t => t.dead, dead: true, stops: ['dead-letters'] },
];

const flow = byId('flow'), svg = flow.querySelector('svg');
const draw = (name, attributes) => {
  const e = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  return e;
};

for (const p of pipes) {
  p.group = draw('g', { class: p.dead ? 'dead' : 'main' });
  p.bed = draw('path', { class: 'bed' });
  p.water = draw('path', { class: 'water' });
  p.head = draw('path', { class: 'head', d: 'M-9 -6 L0 0 L-9 6 Z' });
  p.group.append(p.bed, p.water, p.head);
  svg.append(p.group);
}

// lay draws the pipes where the parts are now.
function lay() {
  const origin = flow.getBoundingClientRect();
  for (const p of pipes) {
    const a = byId('part-' + p.from).getBoundingClientRect(), b = byId('part-' + p.to).getBoundingClientRect();
    let x1, y1, x2, y2, path, turn = 90; // degrees: where the head points to
    if (b.left > a.right || b.right < a.left) {
      const right = b.left > a.right;
      if (Math.abs(b.top - a.top) < a.height) { // beside each other
        [x1, x2] = right ? [a.right, b.left] : [a.left, b.right];
        turn = right ? 0 : 180;
        y1 = y2 = Math.max(a.top, b.top) + Math.min(a.height, b.height) / 2;
        path = `M${x1 - origin.left} ${y1 - origin.top} L${x2 - origin.left} ${y2 - origin.top}`;
      } else { // down and across
        [x1, y1, x2, y2] = [a.left + a.width / 2, a.bottom, b.left + b.width / 2, b.top];
        const middle = (y1 + y2) / 2 - origin.top;
        path = `M${x1 - origin.left} ${y1 - origin.top} C${x1 - origin.left} ${middle + 8} ${x2 - origin.left} ${middle - 8} ${x2 - origin.left} ${y2 - origin.top}`;
      }
    } else { // below each other
      const x = (Math.max(a.left, b.left) + Math.min(a.right, b.right)) / 2 - origin.left;
      [x2, y2] = [x + origin.left, b.top];
      path = `M${x} ${a.bottom - origin.top} L${x} ${b.top - origin.top}`;
    }
    p.bed.setAttribute('d', path);
    p.water.setAttribute('d', path);
    p.head.setAttribute('transform', `translate(${x2 - origin.left} ${y2 - origin.top}) rotate(${turn})`);
  }
}

new ResizeObserver(lay).observe(flow);

const said = new Map();

// show shows a tick; it returns what has changed, in words.
export function show(tick) {
  const changes = [], states = {};
  for (const part of tick.parts) {
    states[part.id] = part.state;
    const card = byId('part-' + part.id);
    if (!card.querySelector('dl')) {
      card.append(
        make('p', { class: 'says' }, make('span', { class: 'dot' }), make('span', { class: 'words' })),
        make('dl', {}, ...part.numbers.map(n => make('div', {}, make('dt', {}, n.label), make('dd')))));
    }
    if (said.has(part.id) && said.get(part.id) !== part.state) {
      changes.push(`${card.querySelector('h3').textContent}, ${card.querySelector('.name').textContent}: ${part.says}`);
    }
    said.set(part.id, part.state);
    if (card.dataset.state !== part.state) card.dataset.state = part.state;
    setText(card.querySelector('.words'), part.says);
    const numbers = card.querySelectorAll('dd');
    part.numbers.forEach((n, i) => setText(numbers[i], quantity(n.value, n.unit)));
  }
  for (const p of pipes) {
    const blocked = p.stops.some(id => states[id] === 'bad'), rate = p.rate(tick);
    p.group.classList.toggle('blocked', blocked);
    p.group.classList.toggle('idle', !(rate > 0));
    p.water.classList.toggle('runs', !blocked && rate > 0);
    // Few steps of speed: another duration begins the animation anew.
    const duration = rate > 3000 ? '.25s' : rate > 300 ? '.5s' : '1.2s';
    if (p.water.style.animationDuration !== duration) p.water.style.animationDuration = duration;
  }
  return changes;
}

// stale pales the picture while nobody tells how things are.
export const stale = is => flow.classList.toggle('stale', is);

// overall says the worst of the parts.
export function overall(parts) {
  const of = state => parts.filter(p => p.state === state);
  const name = p => byId('part-' + p.id).querySelector('h3').textContent;
  const list = ps => [...new Set(ps.map(name))].join(', ');
  if (of('bad').length) return ['bad', `Trouble: ${list(of('bad'))}`];
  if (of('busy').length) return ['busy', `Working on it: ${list(of('busy'))}`];
  return ['good', 'All parts are well'];
}
