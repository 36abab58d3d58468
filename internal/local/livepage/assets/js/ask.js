// The SQL box.
import { byId, make, milliseconds, request } from './format.js';

const form = byId('sql'), select = byId('query'), statement = byId('statement'), says = byId('sql-says'), answer = byId('answer');
let queries = [];

export function offer(list) {
  if (queries.length) return;
  queries = list;
  select.append(...list.map((q, i) => make('option', { value: i }, q.name)));
  if (!statement.value) statement.value = queries[0].sql;
}

function cell(v) {
  if (v === null) return make('td', {}, make('span', { class: 'null' }, 'NULL'));
  return make('td', { class: typeof v === 'number' ? 'num' : null }, typeof v === 'number' ? String(+v.toFixed(6)) : String(v));
}

select.addEventListener('change', () => { statement.value = queries[select.value].sql; });
statement.addEventListener('keydown', e => {
  if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) form.requestSubmit();
});
let asked = 0;
form.addEventListener('submit', async e => {
  e.preventDefault();
  const turn = ++asked;
  says.textContent = 'Running …';
  try {
    const a = await request('POST', 'api/sql', statement.value);
    if (turn !== asked) return; // a later statement has been asked meanwhile
    answer.replaceChildren(make('table', {},
      make('thead', {}, make('tr', {}, ...a.columns.map((c, i) => make('th', { scope: 'col', class: a.rows.some(r => typeof r[i] === 'number') ? 'num' : null }, c)))),
      make('tbody', {}, ...a.rows.map(r => make('tr', {}, ...r.map(cell))))));
    answer.hidden = false;
    says.textContent = `${a.rows.length}${a.more ? '+' : ''} ${a.rows.length === 1 ? 'row' : 'rows'} in ${milliseconds(a.took_ms)}`;
  } catch (err) {
    if (turn !== asked) return;
    answer.hidden = true;
    says.textContent = err.message;
  }
});
