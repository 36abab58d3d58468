// Switches that break things.
import { byId, make, request } from './format.js';

const list = byId('switches');
let locked = false;

async function flip(id, button) {
  button.setAttribute('aria-busy', 'true');
  button.disabled = true;
  try {
    show(await request('POST', `api/switches/${id}`, JSON.stringify({ on: button.getAttribute('aria-checked') !== 'true' })));
  } catch (e) {
    button.querySelector('.about').textContent = e.message;
  } finally {
    button.removeAttribute('aria-busy');
    button.disabled = locked;
  }
}

export function show(switches) {
  if (!list.children.length) {
    list.append(...switches.map(s => {
      const button = make('button', { type: 'button', role: 'switch', id: 'switch-' + s.id, disabled: locked },
        make('span', { class: 'what' }, s.name), make('span', { class: 'about' }, s.about), make('span', { class: 'knob', 'aria-hidden': 'true' }));
      button.addEventListener('click', () => flip(s.id, button));
      return make('li', {}, button);
    }));
  }
  for (const s of switches) {
    const button = byId('switch-' + s.id);
    if (!button.hasAttribute('aria-busy')) button.setAttribute('aria-checked', s.on);
  }
}

export function lock() {
  locked = true;
  for (const b of list.querySelectorAll('button')) b.disabled = true;
}
