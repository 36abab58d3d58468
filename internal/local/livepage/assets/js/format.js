// Numbers, times and elements as the page writes them.

const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

// count writes 987,654 in full and larger numbers as 1.2M.
export const count = n => Math.abs(n) < 1e6 ? whole.format(n) : compact.format(n);

export function milliseconds(ms) {
  if (ms == null || ms < 0) return '–';
  if (ms < 1) return ms.toFixed(1) + ' ms';
  if (ms < 10_000) return whole.format(ms) + ' ms';
  if (ms < 120_000) return (ms / 1000).toFixed(1) + ' s';
  return whole.format(ms / 60_000) + ' min';
}

export const percent = p => p == null ? '–' : (p >= 99.995 ? '100' : p.toFixed(2)) + ' %';

export function dollars(d) {
  if (d == null) return '–';
  return '$' + (d < 0.1 ? d.toFixed(4) : d < 10 ? d.toFixed(3) : d.toFixed(2));
}

// quantity writes a number of a part by its unit.
export function quantity(value, unit) {
  switch (unit) {
    case '/s': return count(Math.round(value)) + '/s';
    case 'ms': return milliseconds(value);
    default: return count(value);
  }
}

// clock writes Unix milliseconds as the time of day.
export const clock = ms => new Date(ms).toLocaleTimeString([], { hour12: false });

// make makes an element: make('td', {class: 'num'}, 'text', child …).
export function make(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith('on')) e.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) e.setAttribute(name, value === true ? '' : value);
  }
  e.append(...children.filter(c => c != null));
  return e;
}

export const byId = id => document.getElementById(id);

// setText changes an element's text only if it is another.
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// request calls the page's own server and throws its sentence when it refuses.
export async function request(method, path, body) {
  let response;
  try {
    response = await fetch(path, { method, body });
  } catch {
    throw new Error('The pipeline does not answer: has ./scripts/run ended?');
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `The pipeline answered ${response.status}.`);
  return answer;
}
