// Marking, by keys and by mouse.

function choose(card, scroll) {
  if (current) {
    current.classList.remove('current');
    current.tabIndex = -1;
  }
  current = card;
  card.classList.add('current');
  card.tabIndex = 0;
  card.focus({preventScroll: true});
  if (scroll) card.scrollIntoView({block: 'nearest'});
  tell();
}

function toggle(card) {
  const image = card.image;
  if (image.real) return say('A real image stays a key; it is not marked here.');
  if (review.wrong[image.pixels]) delete review.wrong[image.pixels];
  else review.wrong[image.pixels] = {class: data.classes[image.label], why: ''};
  review.seen[image.pixels] = 1;
  changed(image.pixels);
}

function changed(pixels) {
  unsaved = true;
  repaint(pixels);
  if (keep()) say('');
  tell();
}

function cardsShown() {
  return [...document.querySelectorAll('.group[open] .card')];
}

function step(by) {
  const all = cardsShown();
  if (!current || !current.isConnected) return all.length && choose(all[0], true);
  const next = all[all.indexOf(current) + by];
  if (next) return choose(next, true);
  stepClass(by, by < 0);
}

function stepRow(by) {
  const all = cardsShown(), place = all.indexOf(current);
  if (place < 0) return step(by);
  const box = current.getBoundingClientRect();
  const others = by > 0 ? all.slice(place + 1) : all.slice(0, place).reverse();
  const other = others.find((card) => (card.getBoundingClientRect().top - box.top) * by > 1);
  if (!other) return stepClass(by, by < 0);
  const top = other.getBoundingClientRect().top;
  const row = others.filter((card) => Math.abs(card.getBoundingClientRect().top - top) < 1);
  const distance = (card) => Math.abs(card.getBoundingClientRect().left - box.left);
  choose(row.reduce((best, card) => distance(card) < distance(best) ? card : best), true);
}

function stepClass(by, last) {
  const groups = [...byId('groups').children];
  const place = current ? groups.indexOf(current.closest('.group')) : -1;
  const group = groups[place < 0 ? 0 : place + by];
  if (!group) return;
  open(group);
  const those = group.querySelectorAll('.card');
  group.scrollIntoView({block: 'start'});
  choose(those[last ? those.length - 1 : 0], true);
}

const keys = {
  j: () => step(1), k: () => step(-1), ArrowRight: () => step(1), ArrowLeft: () => step(-1),
  ArrowDown: () => stepRow(1), ArrowUp: () => stepRow(-1), n: () => stepClass(1), p: () => stepClass(-1),
  x: () => current && toggle(current), ' ': () => current && toggle(current),
  w: () => current && !byId('why').disabled && byId('why').focus(),
};

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const field = event.target.closest('input, select');
  if (field) {
    if (field.id === 'why' && ['Enter', 'Escape'].includes(event.key) && current) choose(current, true);
    return;
  }
  if (event.key === ' ' && event.target.closest('button, summary, a')) return;
  const act = keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

byId('groups').addEventListener('click', (event) => {
  const card = event.target.closest('.card');
  if (!card) return;
  choose(card, false);
  toggle(card);
});

byId('why').addEventListener('input', () => {
  const mark = current && review.wrong[current.image.pixels];
  if (!mark) return;
  mark.why = byId('why').value;
  changed(current.image.pixels);
});
