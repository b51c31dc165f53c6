// What all modules of the page share: elements, calls to /api/v1, and how things are written. Names are text, never HTML.
export const API = "/api/v1";
export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export async function fetchOrFail(route, options = {}) {
  let answer;
  try { answer = await fetch(API + route, options); } catch { throw new Error("The server does not answer."); }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({ error: `the server answers ${answer.status}` }));
  throw new Error(sentence(said.error));
}
export const call = async (route, options) => (await fetchOrFail(route, options)).json();
export const post = (route, values) =>
  call(route, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(values) });

export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
export const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
export const bytes = (size) => (size < 1e6 ? `${Math.max(1, Math.round(size / 1e3))} kB` : `${(size / 1e6).toFixed(1)} MB`);
export const picture = (photo, size) => `${API}/photos/${photo.id ?? photo}/thumbnail${size ? `?size=${size}` : ""}`;

export const day = (photo) => (photo.taken ?? photo.modified ?? "").slice(0, 10);
const written = (date, style) => date && new Date(`${date}T12:00`).toLocaleDateString("en-GB", style);
export const dayWritten = (date) => written(date, { day: "numeric", month: "short", year: "numeric" });
export const month = (photo) => written(day(photo), { month: "long", year: "numeric" });

const parts = (folder) => folder.split(/[\\/]/).filter(Boolean);
export const lastFolder = (folder) => parts(folder).at(-1) ?? folder;
export const lastFolders = (folder) => parts(folder).slice(-2).join("/");

// The run that is served, once it has answered.
export const served = { about: null, async learn() { this.about = await call("/"); return this.about; } };
