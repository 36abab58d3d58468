// The latest events and dead letters.
import { byId, clock, make, milliseconds } from './format.js';
import { open } from './story.js';

let held = false;
const hold = byId('hold');
hold.addEventListener('click', () => {
  held = !held;
  hold.setAttribute('aria-pressed', held);
  hold.textContent = held ? 'Held' : 'Hold';
});

// link opens a record's story; an event that did not come through Kafka has none.
const link = (text, r) => r.offset < 0 ? make('span', {}, text) :
  make('button', { type: 'button', class: 'link', title: `topic ${r.topic}, partition ${r.partition}, offset ${r.offset}`, onclick: () => open(r) }, text);

// replace changes rows only if they are others, and not under who is about to press
// one of their buttons, with the mouse or with the keyboard.
function replace(body, key, rows) {
  if (held || body.dataset.key === key || body.querySelector(':focus-visible') || body.matches(':hover')) return;
  body.dataset.key = key;
  body.replaceChildren(...rows);
}

const key = e => e.topic + '.' + e.partition + '.' + e.offset;

const none = (columns, text) => [make('tr', {}, make('td', { colspan: columns, class: 'none' }, text))];

export function show(tick) {
  if (tick.events) {
    replace(byId('events'), tick.events.map(key).join(), tick.events.map(e => make('tr', {},
      make('td', {}, link(e.id, e)), make('td', {}, e.type), make('td', { class: 'wide-only', title: e.about }, e.about),
      make('td', { class: 'num' }, milliseconds(e.took_ms)))));
  } else if (tick.rows === 0) replace(byId('events'), 'none', none(4, 'No event has landed yet.'));
  if (tick.rejected) {
    replace(byId('rejected'), tick.rejected.map(key).join(), tick.rejected.map(e => make('tr', {},
      make('td', {}, link(e.code, e)), make('td', { class: 'wide-only' }, e.error), make('td', { class: 'num' }, clock(e.failed / 1000)))));
  } else if (tick.dead_letters === 0) replace(byId('rejected'), 'none', none(3, 'Nothing has been rejected.'));
}
