// Switches that break things.
import { byId, make, request } from './format.js';

const list = byId('switches');
let locked = false;

// flip asks for the other position. The button stays enabled meanwhile: who uses the
// keyboard would lose their place.
async function flip({ id, about }, button) {
  if (button.hasAttribute('aria-busy')) return;
  button.setAttribute('aria-busy', 'true');
  const says = button.querySelector('.about');
  let switches;
  try {
    switches = await request('POST', `api/switches/${id}`, JSON.stringify({ on: button.getAttribute('aria-checked') !== 'true' }));
    says.textContent = about;
  } catch (e) {
    says.textContent = e.message;
  }
  button.removeAttribute('aria-busy');
  if (switches) show(switches);
}

export function show(switches) {
  if (!list.children.length) {
    list.append(...switches.map(s => {
      const button = make('button', { type: 'button', role: 'switch', id: 'switch-' + s.id, disabled: locked },
        make('span', { class: 'what' }, s.name), make('span', { class: 'about' }, s.about), make('span', { class: 'knob', 'aria-hidden': 'true' }));
      button.addEventListener('click', () => flip(s, button));
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
