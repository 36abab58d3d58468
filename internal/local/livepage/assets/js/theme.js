// Dark and light: the system's unless somebody chose, which is remembered.

const button = document.getElementById('theme');
const system = matchMedia('(prefers-color-scheme: dark)');
const names = { auto: 'Auto', light: 'Light', dark: 'Dark' };
let choice = localStorage.getItem('theme') ?? 'auto';
let changed = () => {};

function apply() {
  const dark = choice === 'dark' || choice === 'auto' && system.matches;
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  button.querySelector('span').textContent = names[choice];
  button.setAttribute('aria-label', choice === 'auto' ? 'Theme: as the system' : 'Theme: ' + names[choice]);
  changed();
}

button.addEventListener('click', () => {
  choice = { auto: 'light', light: 'dark', dark: 'auto' }[choice];
  localStorage.setItem('theme', choice);
  apply();
});
system.addEventListener('change', apply);
apply();

export function onChange(f) { changed = f; }
