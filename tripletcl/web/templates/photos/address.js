// The page's address holds the question, the filters and the opened photo, so that it can be kept, and Back works.
export const FILTERS = ["after", "before", "folder", "name", "camera", "orientation", "near"];
const QUESTION = ["q", "like", "view", ...FILTERS];

export const question = () => new URLSearchParams(location.search);
export const isSame = (one, other) => QUESTION.every((key) => `${one.getAll(key)}` === `${other.getAll(key)}`);

let follow = () => {}, shownNow = () => 0;
export function onGo(show, count) { [follow, shownNow] = [show, count]; }

export function go(query, { replace = false, ...state } = {}) {
  for (const [key, value] of [...query]) if (!value) query.delete(key, value);
  const address = query.size ? `/?${query}` : "/";
  if (replace) history.replaceState({ ...history.state, ...state }, "", address);
  else {
    keepPlace();
    history.pushState(state, "", address);
  }
  follow();
}

// Where the reader was, and how many photos were shown there.
export function keepPlace() {
  history.replaceState({ ...history.state, count: shownNow(), at: scrollY }, "");
}

const NAMED = /(?:^|\s)(after|before|folder|name|camera|orientation|shape|near):(?:"([^"]*)"|(\S+))/gi;

// Ask for words; those that are filters only, folder:Alps, become the filters.
export function search(words) {
  const query = question(), isFilter = words && !words.replace(NAMED, "").trim();
  for (const key of ["view", "photo", "like"]) query.delete(key);
  query.set("q", isFilter ? "" : words);
  for (const [, name, quoted, plain] of isFilter ? words.matchAll(NAMED) : []) {
    query.set(name.toLowerCase().replace("shape", "orientation"), quoted ?? plain);
  }
  go(query);
}

export function filter(values) {
  const query = question();
  for (const key of ["view", "photo"]) query.delete(key);
  for (const [name, value] of Object.entries(values)) query.set(name, value);
  go(query);
}

export const withFilter = (name, value) => `/?${new URLSearchParams({ [name]: value })}`;
