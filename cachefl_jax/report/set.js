'use strict';
// Shows the images of the set, keeps a reviewer's marks in this browser, and saves them. Texts of the data become text
// nodes and attributes, never markup.
const data = JSON.parse(document.getElementById('data').textContent);
const byId = (id) => document.getElementById(id);
const storageName = 'cachefl review ' + data.set;
const dwell = 1000; // milliseconds in view after which an image counts as seen
const cards = new Map(); // digest of the pixels -> the elements that show it now
let review = recall();
let shown = []; // images in the order of the page
let current = null; // the card that the keys act on
let unsaved = false;

function empty() {
  return {reviewer: '', seen: {}, wrong: {}};
}

function recall() {
  try {
    const found = JSON.parse(localStorage.getItem(storageName));
    if (found && found.seen && found.wrong) return Object.assign(empty(), found);
  } catch (error) { /* a browser that keeps nothing, or something else's text */ }
  return empty();
}

function keep() {
  try {
    localStorage.setItem(storageName, JSON.stringify(review));
    return true;
  } catch (error) {
    say('This browser keeps nothing when the page is closed: save the review before.');
    return false;
  }
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function say(text) {
  byId('message').textContent = text;
}

// ---- what is shown

function number(value) {
  return value === null || value === undefined ? 'not known' : String(value);
}

function badges(image) {
  const found = image.keys.map((key) => 'key ' + key);
  if (image.real) found.push('real: always a key');
  if (image.twin) found.push('near-duplicates: ' + image.twin);
  if (image.constant) found.push('one colour');
  return found;
}

function makeCard(image) {
  const label = data.classes[image.label];
  const card = element('div', {
    class: 'card', role: image.real ? 'img' : 'checkbox', tabindex: '-1',
    'aria-label': (image.real ? 'real image of ' : 'mark this image wrong, ') + label,
  });
  card.image = image;
  const picture = element('img', {src: image.image, alt: '', loading: 'lazy', decoding: 'async'});
  picture.onload = () => picture.classList.toggle('small', picture.naturalWidth <= 64);
  card.append(picture);
  const facts = element('div', {class: 'facts-of'});
  if (data.scored) {
    const low = image.margin !== null && image.margin < 0;
    facts.append(element('span', {class: low ? 'low' : ''}, 'margin ' + number(image.margin)));
    facts.append(element('span', {}, (low ? 'looks like ' : 'runner-up ') + image.runner_up));
    facts.append(element('span', {}, 'sharpness ' + number(image.sharpness)));
  }
  for (const badge of badges(image)) facts.append(element('b', {}, badge));
  if (image.prompt) facts.append(element('span', {class: 'prompt', title: image.prompt}, image.prompt));
  if (image.seed !== null) facts.append(element('span', {}, 'seed ' + image.seed));
  facts.append(element('span', {class: 'verdict'}));
  card.append(facts);
  if (!cards.has(image.pixels)) cards.set(image.pixels, []);
  cards.get(image.pixels).push(card);
  paint(card);
  watch.observe(card);
  return card;
}

function paint(card) {
  const mark = review.wrong[card.image.pixels];
  if (!card.image.real) card.setAttribute('aria-checked', String(Boolean(mark)));
  card.classList.toggle('wrong', Boolean(mark));
  card.classList.toggle('seen', Boolean(review.seen[card.image.pixels]));
  card.querySelector('.verdict').textContent = mark ? 'wrong' + (mark.why ? ': ' + mark.why : '') : '';
}

function repaint(pixels) {
  for (const card of cards.get(pixels) || []) paint(card);
}

function margin(image) {
  return image.margin === null || image.margin === undefined ? Infinity : image.margin;
}

function chosen() {
  const which = byId('filter').value;
  if (which === 'marked') return data.images.filter((image) => review.wrong[image.pixels]);
  if (which === 'unseen') return data.images.filter((image) => !review.seen[image.pixels]);
  if (which !== 'low') return data.images;
  const lowest = [...data.images].sort((one, other) => margin(one) - margin(other));
  const kept = new Set(lowest.slice(0, Math.max(1, Math.ceil(lowest.length / 20))));
  return data.images.filter((image) => kept.has(image));
}

function groupsOf(images) {
  if (byId('order').value === 'margin') {
    const sorted = [...images].sort((one, other) => margin(one) - margin(other));
    return sorted.length ? [['all classes, lowest margin first', sorted]] : [];
  }
  const found = new Map();
  for (const image of images) {
    if (!found.has(image.label)) found.set(image.label, []);
    found.get(image.label).push(image);
  }
  return [...found].map(([label, those]) => [data.classes[label], those]);
}

function show() {
  watch.disconnect();
  cards.clear();
  current = null;
  const groups = groupsOf(chosen());
  shown = groups.flatMap((group) => group[1]);
  byId('groups').replaceChildren(...groups.map(([name, images]) => {
    const count = element('span', {class: 'muted'});
    const summary = element('summary', {}, element('span', {}, name), ' ', count);
    const group = element('details', {class: 'group'}, summary);
    group.images = images;
    group.count = count;
    group.addEventListener('toggle', () => fillGroup(group));
    return group;
  }));
  byId('nothing').hidden = groups.length > 0;
  const first = byId('groups').firstElementChild;
  if (first) open(first);
  tell();
}

function fillGroup(group) {
  if (!group.open || group.querySelector('.cards')) return;
  group.append(element('div', {class: 'cards'}, ...group.images.map(makeCard)));
}

function open(group) {
  group.open = true;
  fillGroup(group);
}

function tell() {
  const marks = Object.keys(review.wrong).length, seen = Object.keys(review.seen).length;
  byId('progress').value = data.total ? seen / data.total : 0;
  byId('told').textContent = seen + ' of ' + data.total + ' seen, ' + marks + ' wrong' + (unsaved ? ', not saved' : '');
  for (const group of byId('groups').children) {
    const wrong = group.images.filter((image) => review.wrong[image.pixels]).length;
    group.count.textContent = group.images.length + ' images' + (wrong ? ', ' + wrong + ' wrong' : '');
  }
  const image = current && current.image, mark = image && review.wrong[image.pixels];
  byId('about').textContent = image
    ? [data.classes[image.label], ...badges(image), image.prompt, image.name].filter(Boolean).join(' · ')
    : 'No image is chosen.';
  byId('why').disabled = !mark;
  if (document.activeElement !== byId('why')) byId('why').value = mark ? mark.why : '';
}

// ---- what was seen

const waiting = new Map(); // card -> timer
const watch = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    clearTimeout(waiting.get(entry.target));
    waiting.delete(entry.target);
    if (entry.isIntersecting && !review.seen[entry.target.image.pixels]) {
      waiting.set(entry.target, setTimeout(() => see(entry.target), dwell));
    }
  }
}, {threshold: 0.5});

function see(card) {
  if (document.hidden) return waiting.set(card, setTimeout(() => see(card), dwell)); // nobody looks now
  if (!card.isConnected || review.seen[card.image.pixels]) return;
  review.seen[card.image.pixels] = 1;
  unsaved = true;
  repaint(card.image.pixels);
  soon();
}

let later = 0;
function soon() { // many images come into view at once
  clearTimeout(later);
  later = setTimeout(() => { keep(); tell(); }, 50);
}

// ---- marking

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

// ---- saving and loading

byId('reviewer').value = review.reviewer;
byId('reviewer').addEventListener('input', () => {
  review.reviewer = byId('reviewer').value;
  keep();
});

byId('save').addEventListener('click', () => {
  if (!review.reviewer.trim()) {
    say('Write your name first: whoever reads the review wants to know who looked.');
    return byId('reviewer').focus();
  }
  const wrong = Object.fromEntries(Object.entries(review.wrong).sort(([one], [other]) => one < other ? -1 : 1));
  const text = JSON.stringify({
    set: data.set, reviewer: review.reviewer.trim(), date: new Date().toISOString(),
    seen: Object.keys(review.seen).sort(), wrong,
  }, null, 1);
  const address = URL.createObjectURL(new Blob([text + '\n'], {type: 'application/json'}));
  element('a', {href: address, download: 'review.json'}).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  unsaved = false;
  tell();
  say('Saved as review.json, where this browser puts downloads.');
});

byId('anew').addEventListener('click', () => {
  if (!confirm('Forget what was seen and marked here, for instance so that another person begins?')) return;
  review = empty();
  unsaved = false;
  byId('reviewer').value = '';
  keep();
  show();
  say('');
});

function isReview(found) {
  const digest = /^[0-9a-f]{64}$/;
  return found && typeof found.set === 'string' && Array.isArray(found.seen) && found.seen.every((each) => digest.test(each))
    && found.wrong && typeof found.wrong === 'object' && Object.entries(found.wrong).every(([pixels, mark]) =>
      digest.test(pixels) && mark && typeof mark.class === 'string' && typeof mark.why === 'string');
}

byId('load').addEventListener('change', async () => {
  const file = byId('load').files[0];
  if (!file) return;
  let found = null;
  try { found = JSON.parse(await file.text()); } catch (error) { /* told below */ }
  byId('load').value = '';
  if (!isReview(found)) return say('This file is no review.json.');
  const here = new Set(data.images.map((image) => image.pixels));
  const ours = (pixels) => found.set === data.set || here.has(pixels);
  const seen = [...found.seen, ...Object.keys(found.wrong)].filter(ours);
  if (!seen.length) return say('This review is of another set: none of its images is here.');
  for (const pixels of seen) review.seen[pixels] = 1;
  const marks = Object.entries(found.wrong).filter(([pixels]) => ours(pixels));
  for (const [pixels, mark] of marks) review.wrong[pixels] = {class: mark.class, why: mark.why};
  if (!review.reviewer && typeof found.reviewer === 'string') byId('reviewer').value = review.reviewer = found.reviewer;
  unsaved = true;
  keep();
  show();
  say(marks.length + ' marks loaded, beside those that were here.');
});

byId('filter').addEventListener('change', show);
byId('order').addEventListener('change', show);
byId('unfold').addEventListener('click', () => [...byId('groups').children].forEach(open));
show();
