// The live page: takes the stream and hands it to its parts.
import { onChange } from './theme.js';
import * as flow from './flow.js';
import * as charts from './charts.js';
import * as lists from './lists.js';
import * as publish from './publish.js';
import * as switches from './switches.js';
import * as repair from './repair.js';
import * as ask from './ask.js';
import { byId, count, milliseconds, setText } from './format.js';

onChange(charts.build);

const overall = byId('overall');

function state(state, text) {
  overall.dataset.state = state;
  setText(byId('overall-text'), text);
}

const stream = new EventSource('api/stream');

stream.addEventListener('hello', e => {
  const hello = JSON.parse(e.data);
  if (hello.history) charts.past(hello.history);
  ask.offer(hello.queries);
  const note = byId('read-only');
  note.hidden = !hello.read_only;
  note.textContent = hello.read_only;
  if (hello.read_only) {
    publish.lock();
    switches.lock();
    repair.lock();
  }
});

stream.addEventListener('tick', e => {
  const tick = JSON.parse(e.data);
  const changes = flow.show(tick);
  flow.stale(false);
  if (changes.length) setText(byId('announce'), changes.join('. '));
  state(...flow.overall(tick.parts));
  setText(byId('total-rows'), count(tick.rows));
  setText(byId('total-dead'), count(tick.dead_letters));
  if (tick.p50 != null) setText(byId('total-took'), milliseconds(tick.p50));
  charts.add(tick);
  lists.show(tick);
  switches.show(tick.switches);
});

// The browser connects again by itself; until then the picture is of the past.
stream.addEventListener('error', () => {
  state('off', 'Not connected: has ./scripts/run ended?');
  flow.stale(true);
});
