'use strict';
// Shows the images of the set, keeps a reviewer's marks in this browser, and saves them. Texts of the data become text
// nodes and attributes, never markup. This file has what is remembered; set_shown.js, set_marked.js and set_saved.js
// follow it in the same script.
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
