// What is shown, and what of it was seen.

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
