// A record's story: where it was when, how that is known, and what became of it.
import { byId, make, milliseconds, request } from './format.js';

const dialog = byId('story'), body = byId('story-body');

export const get = r => request('GET', `api/record?topic=${encodeURIComponent(r.topic)}&partition=${r.partition}&offset=${r.offset}`);

// verdict is the outcome in a sentence.
function verdict(s) {
  switch (s.outcome) {
    case 'landed': return `Landed in ${s.table}` + (s.took_ms >= 0 ? ` ${milliseconds(s.took_ms)} after Kafka’s timestamp` : '') +
      (s.copies > 1 ? `, ${s.copies} copies: it was delivered again, and the view shows it once.` : '.');
    case 'rejected': return `Rejected for ${s.code}${s.field ? ' at ' + s.field : ''}: ${s.error}`;
    case 'both': return s.replay ? `Rejected (${s.code}), and landed by the replay ${s.replay}.`
      : `Landed, and in events_dlq as well (${s.code}): a redelivery was judged differently.`;
    default: return 'On its way.';
  }
}

const text = v => typeof v === 'string' ? v : JSON.stringify(v);

const fields = (title, list, shown) => make('details', { open: shown }, make('summary', {}, title),
  make('dl', { class: 'fields' }, ...list.flatMap(f => [make('dt', {}, f.name), make('dd', {}, text(f.value))])));

// since writes a step's time after the first.
function since(us) {
  if (us === 0) return '0';
  const sign = us < 0 ? '−' : '+', ms = Math.abs(us) / 1000;
  return sign + (ms < 10 ? ms.toFixed(1) + ' ms' : milliseconds(ms));
}

function render(s) {
  byId('story-title').textContent = `${s.topic}, partition ${s.partition}, offset ${s.offset}`;
  const begin = s.steps.length ? s.steps[0].at : 0;
  body.replaceChildren(
    make('p', { class: 'verdict', 'data-outcome': s.outcome }, verdict(s)),
    make('ol', { class: 'steps' }, ...s.steps.map(step => make('li', { 'data-kind': step.kind },
      make('span', { class: 'when', title: new Date(step.at / 1000).toISOString() }, since(step.at - begin)),
      make('span', { class: 'what' }, step.what),
      step.more ? make('div', { class: 'more' }, step.more) : null,
      make('div', { class: 'more' }, 'known from ' + step.by)))),
    ...(s.notes ?? []).map(n => make('p', { class: 'small' }, n)),
    ...(s.letter ? [fields('The row in events_dlq', s.letter, true)] : []),
    ...(s.fields ? [fields(`The row in ${s.table}`, s.fields, !s.letter)] : []));
}

// open shows the story of a record, given by topic, partition and offset.
export async function open(r) {
  byId('story-title').textContent = 'A record’s story';
  body.replaceChildren(make('p', { class: 'small' }, 'Reading …'));
  if (!dialog.open) dialog.showModal();
  try {
    render(await get(r));
  } catch (e) {
    body.replaceChildren(make('p', { class: 'notice' }, e.message));
  }
}

dialog.addEventListener('click', e => { if (e.target === dialog) dialog.close(); });
