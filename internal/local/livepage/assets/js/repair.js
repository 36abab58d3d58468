// The audit's verdict, and the replay of dead letters.
import { byId, count, make, request } from './format.js';

const verdict = byId('verdict'), audit = byId('audit');
const form = byId('replay'), select = byId('code'), transform = byId('transform'), replayed = byId('replayed');
let locked = false;

// say shows an outcome; what ./scripts/replay calls by its flag has a name of its own here.
function say(where, outcome, text) {
  where.hidden = false;
  where.dataset.outcome = outcome;
  where.textContent = text.replaceAll('--transform', 'the repair');
}

// busy runs work with the buttons of its card disabled.
async function busy(where, buttons, work) {
  for (const b of buttons) b.disabled = true;
  try {
    await work();
  } catch (e) {
    say(where, 'bad', e.message);
  } finally {
    for (const b of buttons) b.disabled = locked && b !== audit;
  }
}

audit.addEventListener('click', () => busy(verdict, [audit], async () => {
  say(verdict, '', 'Counting …');
  const v = await request('POST', 'api/audit');
  const all = `${count(v.consumed)} records were consumed: ${count(v.landed + v.both)} landed, ${count(v.dead_lettered)} lie in events_dlq`;
  const twice = v.duplicate_rows ? ` ${count(v.duplicate_rows)} rows are copies from redelivery, which the view events hides.` : '';
  if (v.missing === 0) say(verdict, 'good', `Nothing is missing. ${all}.${twice}`);
  else if (v.backlog > 0) say(verdict, 'busy', `${count(v.missing)} have not arrived yet: ${count(v.backlog)} messages wait in Pub/Sub. ${all}.${twice}`);
  else say(verdict, 'bad', `${count(v.missing)} are missing. ${all}.${twice}`);
}));

// What usually repairs a reason; row_rejected needs nothing once BigQuery takes the rows.
const repairs = {
  invalid_event_type: '.event_type = "page_view"',
  missing_field: '.user_id //= "unknown" | .event_id //= "unknown" | .event_timestamp //= (now | todate)',
  empty_field: '.user_id = "unknown"',
  wrong_type: '.user_id |= tostring | .page_url |= (if type == "array" then .[0] else . end)',
  timestamp_out_of_range: '.event_timestamp = (now | todate)',
  invalid_timestamp: '.event_timestamp = (now | todate)',
};

// offer lists the codes that there are letters of.
async function offer() {
  const chosen = select.value;
  let plan;
  try {
    plan = await request('POST', 'api/replay/plan', JSON.stringify({ code: '', transform: '' }));
  } catch {
    return; // the header says that nobody answers
  }
  const codes = new Map();
  for (const c of plan.codes ?? []) codes.set(c.code, (codes.get(c.code) ?? 0) + c.letters);
  select.replaceChildren(...[...codes].sort().map(([code, n]) => make('option', { value: code }, `${code} (${count(n)})`)));
  if (codes.has(chosen)) select.value = chosen;
  else transform.value = repairs[select.value] ?? '';
}

const body = () => JSON.stringify({ code: select.value, transform: transform.value });
const skipped = list => list.map(([reason, n]) => ` ${count(n)} cannot be sent: ${reason}.`).join('');
const buttons = [...form.querySelectorAll('button')];

select.addEventListener('focus', offer);
select.addEventListener('change', () => { transform.value = repairs[select.value] ?? ''; });

byId('plan').addEventListener('click', () => busy(replayed, buttons, async () => {
  if (!select.value) await offer();
  if (!select.value) return say(replayed, '', 'There is no dead letter to replay.');
  const plan = await request('POST', 'api/replay/plan', body());
  const fails = (plan.codes ?? []).reduce((n, c) => n + c.fails, 0);
  say(replayed, fails ? 'busy' : 'good', `${count(plan.letters)} would be sent: ${count(plan.letters - fails)} would land, ${count(fails)} would be rejected again.` +
    skipped((plan.skipped ?? []).map(s => [s.reason, s.letters])) + ' Nothing has been sent.');
}));

form.addEventListener('submit', e => {
  e.preventDefault();
  busy(replayed, buttons, async () => {
    if (!select.value) await offer();
    if (!select.value) return say(replayed, '', 'There is no dead letter to replay.');
    say(replayed, '', 'Sending …');
    const r = await request('POST', 'api/replay', body());
    const waiting = r.sent - r.landed - r.rejected;
    say(replayed, waiting > 0 || r.rejected > 0 ? 'busy' : 'good', `Replay ${r.id}: ${count(r.sent)} sent, ${count(r.landed)} landed, ${count(r.rejected)} rejected again` +
      (waiting > 0 ? `, ${count(waiting)} on their way.` : '.') + skipped(Object.entries(r.skipped ?? {})));
    await offer();
  });
});

export function lock() {
  locked = true;
  for (const b of form.querySelectorAll('button')) b.disabled = true;
}

// The first letters come a moment after the start.
setTimeout(offer, 1500);
