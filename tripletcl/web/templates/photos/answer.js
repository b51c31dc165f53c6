// The sentences above the photos: what was understood, what nothing here shows, what may have been meant.
import { $, counted, make, picture, sentence, served } from "./core.js";
import { FILTERS, filter, question } from "./address.js";

const LEAST = 0.1;  // of a presence that counts
const SCALES = {
  cosines: "the sum of the cosines of what was asked for; it compares photos within one answer only",
  probability: "the probability that a photo shows all that was asked for",
};
const NAMES = { after: "from", before: "to", folder: "folder", name: "name", camera: "camera", orientation: "shape", near: "near" };

export function clearAnswer() {
  for (const id of ["answer", "error", "notes", "understood", "examples", "active"]) $(id).replaceChildren();
  $("how").hidden = true;
}

export function tellFilters(query) {
  $("active").replaceChildren(...FILTERS.filter((name) => query.get(name)).map((name) => {
    const remove = make("button", { type: "button", textContent: "✕", onclick: () => filter({ [name]: "" }) });
    remove.setAttribute("aria-label", `Remove the filter ${NAMES[name]} ${query.get(name)}`);
    return make("li", {}, `${NAMES[name]} `, make("b", { textContent: query.get(name) }), remove);
  }));
}

export function tell(page, query) {
  if (page.photos) {
    $("answer").textContent = `${counted(page.total, "photo")}, the latest first.`;
    return;
  }
  const examples = query.getAll("like");
  $("examples").replaceChildren(...examples.map((id) => make("img", { src: picture(id), alt: "An example", className: "example" })));
  $("answer").textContent = examples.length ? `Photos like ${examples.length === 1 ? "this one" : "these"}, the most similar first.`
    : `Understood as ${inWords(page.query)}. Best first.`;
  $("notes").replaceChildren(...meant(page.suggestion), ...page.presence.map(missing).filter(Boolean), ...others(page));
  $("how").hidden = false;
  $("understood").replaceChildren(...page.presence.map(scaled), ...answeredAs(page).map((note) => make("li", { textContent: sentence(note) })),
    make("li", { textContent: `A photo’s score is ${SCALES[page.scale] ?? "comparable within one answer only"}.` }));
  $("scale").hidden = !page.presence.length;
}

// <dog, ?, grass>, in words: dog, anything, grass
const inWords = (text) => text.replace(/<([^<>]*)>/g, (_, units) => {
  const named = units.split(", ");
  while (named.length > 1 && named.at(-1) === "?") named.pop();
  return `“${named.map((unit) => (unit === "?" ? "anything" : unit)).join(", ")}”`;
}).replace(/like \S*\//g, "like ");

function meant(words) {
  if (!words) return [];
  const query = question();
  query.set("q", words);
  const link = make("a", { textContent: words, href: `/?${query}` });
  link.dataset.go = "";
  return [make("li", { className: "meant" }, "Did you mean ", link, "?")];
}

function missing({ text, value }) {
  if (value === null) return make("li", { className: "missing" }, "“", make("b", { textContent: text }), "” is a word that this model does not know. Choose a few photos that show it, and teach it.");
  return value < LEAST ? make("li", { className: "missing" }, "Nothing here shows “", make("b", { textContent: text }), "”. The closest photos follow.") : null;
}

function scaled({ text, value }) {
  const meter = make("meter", { min: 0, max: 1, low: LEAST, value: value ?? 0 });
  meter.setAttribute("aria-label", `Presence of ${text}`);
  return make("li", { className: "scaled" }, make("span", { textContent: text }), meter,
    make("span", { textContent: value === null ? "unknown word" : value.toFixed(2) }));
}

const isAnsweredAs = (note) => / was not taught: answered as /.test(note);
function answeredAs(page) {
  const unknown = page.presence.filter(({ value }) => value === null).map(({ text }) => text);
  return page.notes.filter((note) => isAnsweredAs(note) && !unknown.some((text) => note.slice(1).startsWith(text)));
}
const SAID = /^did you mean |^nothing here shows | is nothing that this model knows/;
const others = (page) => page.notes.filter((note) => !SAID.test(note) && !isAnsweredAs(note))
  .map((note) => make("li", { textContent: sentence(note) }));

export const name = () => served.about?.run ?? "photos";
