// Saving and loading a review; the page is shown when all is there.

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
