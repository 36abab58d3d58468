// The form: publish an event and follow it until it has come to rest.
import { byId, make, milliseconds, request, setText } from './format.js';
import { get, open } from './story.js';

const form = byId('publish'), select = byId('example'), event = byId('event'), expect = byId('expect'), mine = byId('mine');
let examples = [];

async function load(keep) {
  try {
    examples = await request('GET', 'api/examples');
  } catch {
    return; // the header says that nobody answers
  }
  if (!select.options.length) select.append(...examples.map((e, i) => make('option', { value: i }, e.code ? `${e.name} (${e.code})` : e.name)));
  if (!keep) take();
}

function take() {
  const e = examples[select.value || 0];
  if (!e) return;
  event.value = pretty(e.event);
  expect.textContent = e.code ? `must be rejected: ${e.code}` : 'must land';
}

// pretty indents what is JSON and changes nothing else of it: numbers, escapes and a
// name that comes twice stay as they are. What is no JSON stays, byte for byte.
function pretty(s) {
  try {
    JSON.parse(s);
  } catch {
    return s;
  }
  let depth = 0;
  const line = () => '\n' + '  '.repeat(depth);
  // Strings, empty brackets, and what structures the rest.
  return s.replace(/"(?:[^"\\]|\\.)*"|\[\s*\]|\{\s*\}|[[{]|[\]}]|[,:]|\s+/g, t => {
    if (t.trim() === '') return '';
    if (t === '{' || t === '[') { depth++; return t + line(); }
    if (t === '}' || t === ']') { depth--; return line() + t; }
    if (t === ',') return t + line();
    return t === ':' ? ': ' : t;
  });
}

const pause = ms => new Promise(done => setTimeout(done, ms));

// follow asks for the record's story until it has landed or was rejected, or until
// newer events have pushed it off the list.
async function follow(item, at) {
  const verdict = make('b', {}, 'On its way'), says = make('span', {});
  item.replaceChildren(verdict, says, make('button', { type: 'button', class: 'link', onclick: () => open(at) }, 'its story'));
  for (let wait = 60; item.isConnected; wait = Math.min(wait * 1.3, 1000)) {
    let s;
    try {
      s = await get(at);
    } catch (e) {
      item.replaceChildren(e.message);
      return;
    }
    item.dataset.outcome = s.outcome;
    if (s.outcome === 'waiting') {
      const tries = s.steps.filter(x => x.kind === 'bad').length;
      setText(says, `: partition ${at.partition}, offset ${at.offset}` + (tries ? `, delivered ${tries === 1 ? 'once' : tries + ' times'} without success` : s.steps.length > 2 ? ', at Ingest' : ''));
      await pause(wait);
      continue;
    }
    const first = s.steps[0]?.at, end = s.steps.filter(x => x.kind === 'end').at(-1)?.at;
    // The row is visible before its acknowledgement has been written down.
    if (end == null && wait < 1000) { await pause(wait); continue; }
    const took = end == null ? '' : ` ${milliseconds((end - first) / 1000)} after you pressed Publish`;
    setText(verdict, s.outcome === 'landed' ? 'Landed' : 'Rejected');
    setText(says, s.outcome === 'landed' ? `${took}.` : ` ${s.code}${s.field ? ' at ' + s.field : ''}: ${s.error.replace(/\.?$/, '.')} It is in events_dlq${took}.`);
    return;
  }
}

form.addEventListener('submit', async e => {
  e.preventDefault();
  const item = make('li', {}, 'Publishing …');
  mine.prepend(item);
  while (mine.children.length > 5) mine.lastChild.remove();
  try {
    const at = await request('POST', 'api/events', event.value);
    follow(item, at);
  } catch (err) {
    item.dataset.outcome = 'rejected';
    item.replaceChildren(err.message);
  }
  // The next one of the same kind has an id of its own, unless it was edited.
  const untouched = event.value === pretty(examples[select.value]?.event ?? '');
  await load(!untouched);
});
event.addEventListener('input', () => { expect.textContent = ''; }); // that was said of the example
select.addEventListener('change', async () => { await load(); });
load();

// lock makes the form one to read.
export function lock() {
  for (const e of form.elements) e.disabled = true;
}
